"""Differences between an answer and its reference."""

from __future__ import annotations

import pytest

from tasks.report._answers import MOST_WORDS, Difference, Stretch, diff_words

pytestmark = pytest.mark.unit


def test_diff_words_names_what_is_added_and_what_is_missing() -> None:
    assert diff_words("the red cat", "the blue cat") == [
        Stretch("the ", Difference.SAME),
        Stretch("red", Difference.MISSING),
        Stretch("blue", Difference.ADDED),
        Stretch(" cat", Difference.SAME),
    ]


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("", "a b"), ("a, b", ""), ("one two", "two one"), ("w " * MOST_WORDS, "v " * MOST_WORDS)],
)
def test_diff_words_loses_nothing(reference: str, answer: str) -> None:
    found = diff_words(reference, answer)
    written = "".join(one.text for one in found if one.kind is not Difference.MISSING)
    wanted = "".join(one.text for one in found if one.kind is not Difference.ADDED)
    assert (wanted, written) == (reference, answer)


def test_diff_words_of_equal_texts_is_one_stretch() -> None:
    assert diff_words("a b", "a b") == [Stretch("a b", Difference.SAME)]
