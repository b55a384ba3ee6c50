from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from schemas.errors import DataSourceError
from schemas.rows import SourceRow
from tasks._readers import plain_value, read_file


def read(path: Path) -> list[SourceRow]:
    return list(read_file(path, path.name))


def test_jsonl_keeps_line_numbers_and_says_why_a_line_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": \n{"a": "\xff"}\n{"a": NaN}\n"\\ud800"\n'
        + b"[" * 100_000
        + b'\n{"a": "\xc3\xa4"}'
    )
    rows = read(path)
    assert [(row.line, row.row) for row in rows if not row.unparseable] == [
        (1, {"a": 1}),
        (8, {"a": "ä"}),
    ]
    assert [(row.line, row.unparseable) for row in rows if row.unparseable] == [
        (3, "Expecting value at column 7"),
        (4, "not UTF-8 at byte 8"),
        (5, "NaN is not JSON"),
        (6, "holds half of a surrogate pair"),
        (7, "nested too deeply"),
    ]


def test_jsonl_number_with_too_many_digits_is_unparseable(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("1" * 5000)
    assert read(path)[0].unparseable


def test_json_list_is_numbered_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n "x", "\\ud800"]')
    assert read(path) == [
        SourceRow("a.json", 1, {"a": 1}),
        SourceRow("a.json", 2, "x"),
        SourceRow("a.json", 3, unparseable="holds half of a surrogate pair"),
    ]


def test_json_file_with_one_object_a_line_is_read_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert [row.row for row in read(path)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("text", ['{"rows": []}', "3", "[1,", "[NaN]", "[" * 100_000])
def test_json_file_that_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataSourceError):
        read(path)


def test_csv_reads_quotes_long_cells_and_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long_text = "x" * 200_000
    path.write_text(f'q,a\n"one\ntwo",2\n\n{long_text},b\nonly\n', encoding="utf-8-sig")
    assert read(path) == [
        SourceRow("a.csv", 2, {"q": "one\ntwo", "a": "2"}),
        SourceRow("a.csv", 5, {"q": long_text, "a": "b"}),
        SourceRow("a.csv", 6, unparseable="has 1 fields, the header has 2"),
    ]


def test_csv_with_an_open_quote_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q,a\n"one,2\n3,4\n')
    assert [row.unparseable for row in read(path)] == ["unexpected end of data"]


def test_csv_with_equal_names_or_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q,q\n1,2\n")
    with pytest.raises(DataSourceError, match="same name"):
        read(path)
    path.write_bytes(b"q,a\n\xff,2\n")
    with pytest.raises(DataSourceError, match="not UTF-8"):
        read(path)


def test_parquet_rows_become_plain_values(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    day = datetime.date(2026, 1, 2)
    rows = [{"messages": [{"role": "user", "content": "a"}], "day": day, "score": float("nan")}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [row.row for row in read(path)] == [
        {"messages": [{"role": "user", "content": "a"}], "day": "2026-01-02", "score": None}
    ]


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(DataSourceError, match="not a readable Parquet file"):
        read(path)


def test_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSourceError, match="not a kind of data file"):
        read(tmp_path / "a.xlsx")


def test_plain_value_keeps_what_json_can_hold() -> None:
    assert plain_value({1: (1, 2.5, True, None, "x")}) == {"1": [1, 2.5, True, None, "x"]}
