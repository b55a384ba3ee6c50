"""Rows that share a run of words with a benchmark."""

from __future__ import annotations

import pickle
from typing import Any

import polars
import pytest

from tasks.rows.benchmark_overlap import NgramIndex, benchmark_texts

QUESTION = (
    "Natalia sold clips to forty of her friends in April, and then she sold half as many in May."
)
"""19 words."""
RUN = "to forty of her friends in April and then she sold half as"
"""13 of them."""
SHORT = "What is the tallest mountain of the Andes?"
"""8 words."""
PADDING = " ".join(f"filler{number}" for number in range(5000))


def overlaps(benchmark: list[str], *texts: str | None, n: int = 13) -> list[bool]:
    index = NgramIndex.from_texts(benchmark, n)
    return index.overlaps(polars.Series(texts, dtype=polars.String)).tolist()


def test_overlaps_finds_thirteen_words_in_a_long_row() -> None:
    twelve = RUN.rsplit(" ", 1)[0]
    texts = (f"{PADDING} {RUN} {PADDING}", f"{PADDING} {twelve} {PADDING}", QUESTION, "", None)
    assert overlaps([QUESTION], *texts) == [True, False, True, False, False]


def test_overlaps_sees_no_run_across_two_rows() -> None:
    first, second = RUN.split(" in ", 1)
    assert overlaps([QUESTION], first, f"in {second}") == [False, False]


def test_overlaps_ignores_case_punctuation_and_white_space() -> None:
    shouted = RUN.upper().replace(" ", ",\n\t")
    quoted = "“" + RUN.replace(" ", " — ") + "”"
    assert overlaps([QUESTION], shouted, quoted, RUN.replace("her", "his")) == [True, True, False]


def test_overlaps_leaves_mixed_rows_in_their_order() -> None:
    texts = ("é", RUN, "ü", f"é {RUN}", "plain")
    assert overlaps([QUESTION], *texts) == [False, True, False, True, False]


def test_overlaps_finds_a_short_text_only_as_a_whole() -> None:
    asked = f"Tell me: {SHORT.lower()} Thanks."
    assert overlaps([SHORT], asked, "the tallest mountain of the Andes") == [True, False]


def test_overlaps_looks_for_no_text_of_seven_words() -> None:
    seven = "what is the tallest mountain of Peru"
    assert overlaps([seven], seven) == [False]


def test_overlaps_takes_the_length_of_a_run_from_the_caller() -> None:
    assert overlaps(["one two three four"], "x two three y", "x three two", n=2) == [True, False]


def test_overlaps_counts_characters_where_there_are_no_spaces() -> None:
    """39 characters stand for 13 words; a question of 24 is found as a whole."""
    signs = "".join(chr(0x4E00 + 41 * number) for number in range(60))
    whole = signs[:24]
    found = overlaps([signs], f"问：{signs[10:49]}。", f"问：{signs[10:48]}。")
    assert found == [True, False]
    assert overlaps([whole], f"问：{whole}？", whole[:23]) == [True, False]
    assert overlaps([whole[:23]], whole) == [False]


@pytest.mark.parametrize(("n_texts", "is_counted"), [(10, True), (11, False)])
def test_overlaps_does_not_count_the_benchmarks_own_template(
    n_texts: int, is_counted: bool
) -> None:
    template = "Answer the following question with one letter and say nothing else at all please"
    benchmark = [f"{template} question{number} of many" for number in range(n_texts)]
    row = f"{template} something of my own"
    whole = f"{template} question3 of many"
    assert overlaps(benchmark, row, whole) == [is_counted, True]


def test_overlaps_counts_a_text_that_stands_in_the_file_twenty_times_once() -> None:
    assert overlaps([QUESTION, QUESTION.upper()] * 10, RUN) == [True]


def test_overlaps_with_nothing_to_look_for_is_false() -> None:
    assert overlaps([], RUN) == [False]
    assert overlaps(["", "yes", "..."], RUN) == [False]
    assert overlaps([QUESTION]) == []


def test_index_counts_what_it_looks_for() -> None:
    index = NgramIndex.from_texts([QUESTION, SHORT, SHORT, "yes", "Paris", "..."])
    assert (index.n_texts, index.n_short_texts) == (2, 2)
    assert {length: len(table.hashes) for length, table in index.tables.items()} == {8: 1, 13: 7}


def test_index_goes_to_another_process() -> None:
    index = pickle.loads(pickle.dumps(NgramIndex.from_texts([QUESTION])))  # noqa: S301
    assert index.overlaps(polars.Series([RUN, "no"])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"question": "a", "answer": 3, "none": None}, ["a"]),
        ({"q": "a", "choices": {"text": ["b", "c"], "label": ["A"]}}, ["a", "b", "c", "A"]),
        ({"messages": [{"role": "user", "content": "hi"}]}, ["user", "hi"]),
        (["a", ["b", {"x": "c"}]], ["a", "b", "c"]),
        ("a", ["a"]),
        (None, []),
        (5, []),
    ],
)
def test_benchmark_texts_takes_every_string_on_its_own(row: Any, texts: list[str]) -> None:
    assert benchmark_texts(row) == texts


def test_benchmark_texts_goes_as_deep_as_the_row() -> None:
    row: Any = "deep"
    for _ in range(100_000):
        row = [row]
    assert benchmark_texts(row) == ["deep"]
    while isinstance(row, list):
        row = row.pop()
