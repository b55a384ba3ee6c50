"""Answers on the page, and what a judging model said."""

from __future__ import annotations

import pytest

from tasks.report._answers import (
    MOST_ANSWERS,
    MOST_WORDS,
    Difference,
    Stretch,
    compare_answers,
    cut,
    diff_words,
    judge_counts,
)


def test_cut_says_how_much_is_left_out() -> None:
    assert cut("abcdef", 4) == "abcd … (2 more characters)"
    assert cut("abcd", 4) == "abcd"


def test_compare_answers_keeps_the_page_small() -> None:
    answer = {"prompt": "p" * 9000, "reference": "r", "base": "b" * 9000, "challenger": "r"}
    found = compare_answers([answer] * (MOST_ANSWERS + 1), ["base", "challenger"])
    assert len(found) == MOST_ANSWERS
    # 600,000 characters / (200 answers x 6 texts)
    assert found[0].prompt == "p" * 500 + " … (8,500 more characters)"
    assert found[0].is_exact == {"base": False, "challenger": True}


def test_judge_figures_count_flips_and_unreadable_replies() -> None:
    rows = [
        {"win": 1.0, "verdicts": ["challenger", "challenger"]},
        {"win": 0.0, "verdicts": ["opponent", "opponent"]},
        {"win": 0.5, "verdicts": ["opponent", "challenger"]},
        {"win": 0.5, "verdicts": ["unreadable", "unreadable"]},
    ]
    assert judge_counts(rows) == {
        "rows": 4,
        "won": 1,
        "lost": 1,
        "tied": 2,
        "flips": 1,
        "unreadable_replies": 2,
    }


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
