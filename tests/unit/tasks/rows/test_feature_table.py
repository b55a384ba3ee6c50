from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import pytest

import tasks.rows.feature_table
from tasks.rows.feature_table import DTYPES, FeatureTable
from tasks.rows.features import RowFeatures


def block(lines: list[int], codes: list[int], files: list[str], **fields: Any) -> RowFeatures:
    columns = {"line": numpy.array(lines), "file": numpy.array(codes, dtype=numpy.uint32)}
    return RowFeatures(columns, files, **fields)


@pytest.fixture
def table(tmp_path: Path) -> FeatureTable:
    """Give a table of four rows in two blocks and two files."""
    made = FeatureTable(tmp_path / "deep" / "table")
    made.add(block([1, 9], [0, 0], ["b.jsonl"], roles=Counter(user=2), sample=[(7, "x"), (9, "y")]))
    made.add(
        block(
            [1, 3],
            [0, 1],
            ["a.jsonl", "b.jsonl"],
            roles=Counter(user=1, assistant=2),
            sample=[(8, "z")],
        )
    )
    return made


def test_blocks_follow_each_other_and_files_are_coded_anew(table: FeatureTable) -> None:
    assert table.n_rows == 4
    assert table.column("line").tolist() == [1, 9, 1, 3]
    assert table.files == ["b.jsonl", "a.jsonl"]
    assert table.column("file").tolist() == [0, 0, 1, 0]
    places = [table.place(row) for row in range(4)]
    assert places == [("b.jsonl", 1), ("b.jsonl", 9), ("a.jsonl", 1), ("b.jsonl", 3)]
    assert table.roles == {"user": 3, "assistant": 2}
    assert table.sample == [(7, "x"), (8, "z"), (9, "y")]


def test_place_of_a_late_line_is_exact(tmp_path: Path) -> None:
    table = FeatureTable(tmp_path)
    table.add(block([2**32 - 1], [0], ["a"]))
    assert table.place(0) == ("a", 2**32 - 1)


def test_sample_keeps_the_smallest_hashes_of_all_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.rows.feature_table, "MAX_SAMPLE_ROWS", 2)
    table = FeatureTable(tmp_path)
    for keys in ([5, 9], [1, 7], [6, 8]):
        table.add(block([], [], [], sample=[(key, str(key)) for key in keys]))
    assert table.sample == [(1, "1"), (5, "5")]


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_every_column_reads_back_in_its_type(tmp_path: Path, name: str) -> None:
    table = FeatureTable(tmp_path)
    assert table.column(name).tolist() == []
    table.append(name, numpy.array([1, 0]))
    table.append(name, numpy.array([1]))
    found = table.column(name)
    assert (found.dtype, found.tolist()) == (DTYPES[name], [1, 0, 1])


def test_columns_take_about_ninety_bytes_a_row() -> None:
    assert sum(numpy.dtype(kind).itemsize for kind in DTYPES.values()) <= 92


def test_saved_table_is_found_again(table: FeatureTable) -> None:
    table.save()
    found = FeatureTable.load(table.folder)
    assert (found.n_rows, found.files) == (4, table.files)
    assert (found.roles, found.sample) == (table.roles, table.sample)
    assert found.column("line").tolist() == [1, 9, 1, 3]
    assert found.place(2) == ("a.jsonl", 1)


def test_selected_rows_are_numbered_anew(table: FeatureTable) -> None:
    chosen = table.select(numpy.array([False, True, True, True]))
    assert (chosen.n_rows, chosen.column("line").tolist()) == (3, [9, 1, 3])
    assert chosen.place(0) == ("b.jsonl", 9)
    again = chosen.select(numpy.array([False, True, True]))
    assert (again.n_rows, again.place(0)) == (2, ("a.jsonl", 1))
    assert chosen.column("answer").tolist() == []
    assert table.column("line").tolist() == [1, 9, 1, 3]
