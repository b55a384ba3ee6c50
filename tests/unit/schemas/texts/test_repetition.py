from __future__ import annotations

import polars
import pytest

from schemas.texts.repetition import find_loop, may_loop

START = "The answer is easy to see. "
LOOPS = [
    START + "I am happy. " * 12,
    START + "I am happy. " * 12 + "I am ha",
    START + "\n".join(["- We add the two numbers and carry the one over."] * 10) + "\n",
    START + "and then the " * 20 + " \n\n",
    "yes " * 40,
    START + "我们把数字相加。" * 15,
    START + f"{'A long paragraph with many words in it, ' * 8}and its end. " * 5,
    "x" * 20_000 + " no no no" * 30,
    (START * 12 + "\n\n") * 5,
    START + ("It " + "goes on and on, " * 150 + "then ends.\n\n---\n\n") * 5,
    "\n".join(f"{number}. Drink enough water every day." for number in range(1, 20)),
    START + "\n" + "\n".join(f"Step {number}: We add one to the sum." for number in range(9, 30)),
    START + "and then (see [here: + " * 20,
    START + "a" * 300,
    START + "!" * 400,
]
FREE = [
    "",
    "Yes.",
    START * 4,
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
    "| a | b |\n" + "|---|---|\n" * 20,
    "=" * 400,
    "10^300 = 1" + "0" * 300,
    "She loves you, yeah, yeah, yeah\n" * 6,
    "Sets:\n" + "- 10 push-ups, 30 s rest\n" * 6,
    "\n".join(f"{number}. {number * 7} apples and {number * 3} pears" for number in range(30)),
    "\n".join(f"{number}. Yes" for number in range(1, 9)),
    "0, 0, 0, " * 30,
    "```\n" + "and then the " * 20 + "\n```",
    "I am happy. " * 12 + "But then it all changed, and the story goes on in another way.",
    " ".join(f"{number}. item number {number}" for number in range(60)),
]


@pytest.mark.parametrize("text", LOOPS)
def test_loop_at_the_end_is_found(text: str) -> None:
    assert "times at the end" in find_loop(text)
    assert may_loop(polars.Series([text])).to_list() == [True]


@pytest.mark.parametrize("text", FREE)
def test_other_repetition_is_left_alone(text: str) -> None:
    assert find_loop(text) == ""


def test_loop_is_described_by_its_words() -> None:
    assert find_loop(START + "I am happy. " * 12) == "'I am happy.' 12 times at the end"


def test_search_marks_few_texts_and_takes_nulls() -> None:
    texts = polars.Series([None, "Yes.", START, " ".join(map(str, range(100))), LOOPS[0]])
    assert may_loop(texts).to_list() == [False, False, False, False, True]
    assert may_loop(polars.Series([], dtype=polars.String)).to_list() == []


@pytest.mark.parametrize("piece", ["a", "ab ", "abc abx ", "\n", "yes " * 50 + "no "])
def test_search_takes_linear_time(piece: str) -> None:
    """A quadratic one would run for an hour on a text of this length."""
    assert len(find_loop(piece * 100_000)) < 200
