from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy
import pytest

from schemas.rows.row import SourceRow
from schemas.rule_ids import SetRule
from schemas.rules.row_rules import row_severities
from tasks.dataset.comparisons import (
    MIN_BOILERPLATE_PROMPTS,
    SetColumns,
    compare_rows,
    count_partners,
    first_true,
    repeats,
)
from tasks.dataset.row_pass import start_pass
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.sources.parsing import Block

LONG = "The wall of the house was measured on the first day and found to be {} metres tall"


def compare(folder: Path, *pairs: tuple[str, str], n_bad: int = 0) -> SetColumns:
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]
    sources = tuple(SourceRow("a.jsonl", n, row) for n, row in enumerate(rows, start=1))
    request = CheckRequest(row_severities({}))
    check = start_pass(request, FeatureRequest(similarity=0.8), folder)
    blocks = [Block("a.jsonl", 1, rows=sources)] if rows else []
    with closing(check):
        outcomes = list(check.outcomes(blocks, None))
        check.finish()
    assert sum(found.n_kept_rows for found in outcomes) == len(rows)
    assert isinstance(check.table, FeatureTable)
    return compare_rows(check.table, n_bad)


def marked(found: SetColumns, column: str) -> list[int]:
    """Give the lines of the marked rows."""
    return [row + 1 for row in numpy.flatnonzero(found.columns[column]).tolist()]


def places(found: SetColumns, rule: SetRule) -> list[tuple[int, str]]:
    return [(example.line, example.detail) for example in found.examples[rule]]


@pytest.mark.parametrize(
    ("keys", "is_repeat", "earlier"),
    [
        ([], [], []),
        ([5], [False], [-1]),
        ([3, 1, 3, 3, 1], [False, False, True, True, True], [-1, -1, 0, 0, 1]),
        ([2, 2], [False, True], [-1, 0]),
        ([0, 2**64 - 1, 0], [False, False, True], [-1, -1, 0]),
    ],
)
def test_repeats_name_the_first_of_their_kind(keys: Any, is_repeat: Any, earlier: Any) -> None:
    marks, firsts = repeats(numpy.array(keys, dtype=numpy.uint64))
    assert (marks.tolist(), firsts.tolist()) == (is_repeat, earlier)


@pytest.mark.parametrize(
    ("keys", "partners", "expected"),
    [
        ([], [], []),
        ([1, 2], [5, 5], [1, 1]),
        ([1, 2, 1, 1], [5, 5, 6, 5], [2, 1, 2, 2]),
        ([9, 9, 9], [1, 2, 3], [3, 3, 3]),
        ([1, 2], [7, 7], [1, 1]),
    ],
)
def test_partners_that_differ_are_counted_for_each_row(
    keys: Any, partners: Any, expected: Any
) -> None:
    found = count_partners(
        numpy.array(keys, dtype=numpy.uint64), numpy.array(partners, dtype=numpy.uint64)
    )
    assert found.tolist() == expected


def test_exact_repeats_are_duplicates_and_case_makes_near_ones(tmp_path: Path) -> None:
    one, other = (LONG.format("two"), "Yes, that is so."), ("Who built it?", "The mason did it.")
    found = compare(tmp_path, one, other, one, (one[0].upper(), one[1]), one)
    assert marked(found, "is_duplicate") == [3, 5]
    assert places(found, SetRule.DUPLICATE_FRACTION) == [
        (3, "same as a.jsonl:1"),
        (5, "same as a.jsonl:1"),
    ]
    assert marked(found, "is_near_duplicate") == [4]
    assert places(found, SetRule.NEAR_DUPLICATE_FRACTION) == [(4, "nearly the same as a.jsonl:1")]
    assert marked(found, "is_contradictory") == []


def test_one_word_in_thirty_makes_a_near_duplicate_and_many_do_not(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(30)]
    changed = [*words[:-1], "otherwise"]
    different = [*words[:15], *(f"else{number}" for number in range(15))]
    found = compare(
        tmp_path,
        (" ".join(words), "It is two metres."),
        (" ".join(changed), "It is two metres."),
        (" ".join(different), "It is two metres."),
    )
    assert marked(found, "is_near_duplicate") == [2]
    assert marked(found, "is_duplicate") == []


def test_prompts_with_several_answers_contradict(tmp_path: Path) -> None:
    found = compare(
        tmp_path,
        ("How tall is it?", "Two metres."),
        ("Who built it?", "A mason."),
        ("how tall  is it?", "Three metres."),
        ("Who built it?", "a  MASON."),
    )
    assert marked(found, "is_contradictory") == [1, 3]
    assert places(found, SetRule.CONTRADICTORY_FRACTION) == [
        (1, "its prompt has 2 answers"),
        (3, "its prompt has 2 answers"),
    ]


def test_answer_that_three_prompts_share_is_boilerplate_and_two_are_not(tmp_path: Path) -> None:
    stock, other = "I am sorry, I cannot say.", "It was built by a mason."
    found = compare(
        tmp_path,
        ("How tall?", stock),
        ("How wide?", stock.upper()),
        ("Who built it?", other),
        ("Who made it?", other),
        ("who  made it?", other),
        ("How deep?", stock),
    )
    assert MIN_BOILERPLATE_PROMPTS == 3
    assert marked(found, "is_boilerplate") == [1, 2, 6]
    assert places(found, SetRule.BOILERPLATE_FRACTION) == [
        (line, "3 prompts have its answer") for line in (1, 2, 6)
    ]


def test_labels_are_no_boilerplate(tmp_path: Path) -> None:
    found = compare(tmp_path, *((f"Is item number {number} tall?", "Yes.") for number in range(6)))
    assert marked(found, "is_boilerplate") == []


def test_bad_and_usable_rows_lengths_and_roles_are_laid_out(tmp_path: Path) -> None:
    found = compare(tmp_path, ("abc", "de"), ("f", "ghij"), n_bad=3)
    columns = {name: values.tolist() for name, values in found.columns.items()}
    assert columns["is_bad"] == [False, False, True, True, True]
    assert columns["is_usable"] == [True, True]
    assert columns["n_characters"] == [5, 5]
    assert columns["assistant_share"] == [0.5, 0.5]
    assert "is_in_benchmark" not in columns


def test_no_rows_are_compared_without_complaint(tmp_path: Path) -> None:
    found = compare(tmp_path, n_bad=2)
    assert found.columns.pop("is_bad").tolist() == [True, True]
    assert all(len(values) == 0 for values in found.columns.values())
    assert set(found.examples.values()) == {()}


def test_at_most_five_places_are_shown(tmp_path: Path) -> None:
    found = compare(tmp_path, *[("How tall is it?", "Two metres.")] * 9)
    assert marked(found, "is_duplicate") == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [line for line, _ in places(found, SetRule.DUPLICATE_FRACTION)] == [2, 3, 4, 5, 6]
    assert first_true(numpy.array([False, True, True])) == [1, 2]


def test_benchmark_passages_are_laid_out_where_they_were_looked_for(tmp_path: Path) -> None:
    table = FeatureTable(tmp_path)
    for name in ("file", "line", "whole", "prompt", "answer", "n_assistant", "n_messages"):
        table.append(name, numpy.array([0, 1]) if name != "n_messages" else numpy.array([2, 2]))
    for name in ("prompt_characters", "answer_characters", "is_label"):
        table.append(name, numpy.array([1, 1]))
    table.append("in_benchmark", numpy.array([False, True]))
    table.files, table.n_rows = ["a.jsonl", "b.jsonl"], 2
    found = compare_rows(table, 0)
    assert marked(found, "is_in_benchmark") == [2]
    assert places(found, SetRule.BENCHMARK_OVERLAP) == [(1, "holds a passage of a benchmark")]
