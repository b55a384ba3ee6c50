from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources._readers import read_file
from tasks.sources.parsing import parse_block


def read(path: Path) -> list[SourceRow]:
    return [row for block in read_file(path, path.name) for row in parse_block(block).rows]


def test_csv_reads_quotes_long_cells_and_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long_text = "x" * 200_000
    path.write_text(f'\nq,a\n"one\ntwo",2\n\n{long_text},b\nonly\n', encoding="utf-8-sig")
    assert read(path) == [
        SourceRow("a.csv", 3, {"q": "one\ntwo", "a": "2"}),
        SourceRow("a.csv", 6, {"q": long_text, "a": "b"}),
        SourceRow("a.csv", 7, unparseable="has 1 fields, the header has 2"),
    ]


def test_csv_with_an_open_quote_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q,a\n"one,2\n3,4\n')
    assert [row.unparseable for row in read(path)] == ["not CSV: unexpected end of data"]


def test_csv_goes_on_after_text_behind_a_quote(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q,a\n"one"x,2\n3,4\n')
    found = [(row.line, row.unparseable or row.row) for row in read(path)]
    assert found == [(2, "not CSV: ',' expected after '\"'"), (3, {"q": "3", "a": "4"})]


def test_csv_with_equal_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q,q\n1,2\n")
    with pytest.raises(DataSourceError, match="same name"):
        read(path)


def test_csv_bytes_that_are_not_utf8_become_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"q,a\n\xff,\x00\n")
    assert read(path) == [SourceRow("a.csv", 2, {"q": "\ufffd", "a": "\x00"})]


def test_csv_line_that_is_too_long_is_one_unreadable_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources._csv_rows.LONGEST_CELL", 10)
    path = tmp_path / "a.csv"
    path.write_text("q,a\n123456,8\n" + "x" * 95 + ",b\n3,4\n" + "y" * 30)
    assert [(row.line, row.unparseable or row.row) for row in read(path)] == [
        (2, {"q": "123456", "a": "8"}),
        (3, "not CSV: longer than 64 MiB"),
        (4, {"q": "3", "a": "4"}),
        (5, "not CSV: longer than 64 MiB"),
    ]


def test_csv_line_numbers_survive_wide_cells_and_small_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q\n1\n" + "\n" * 3000 + '2\n"a\nb"\n3\n')
    for block_bytes in (1, 20, 8 << 20):
        monkeypatch.setattr("tasks.sources._line_blocks.BLOCK_BYTES", block_bytes)
        lines = [row.line for row in read(path)]
        assert lines == [2, 3003, 3004, 3006]


def test_tsv_parts_cells_at_tabulators(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("q\ta\nx, y\tz\n")
    assert [row.row for row in read(path)] == [{"q": "x, y", "a": "z"}]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("kind", [".csv", ".tsv"])
def test_delimiter_is_found_in_the_header(tmp_path: Path, kind: str, sign: str) -> None:
    path = tmp_path / f"a{kind}"
    path.write_text(
        f'\nprompt{sign}completion\n"1{sign}5, 2; 3"{sign}"a\nb"\n', encoding="utf-8-sig"
    )
    assert read(path) == [
        SourceRow(path.name, 3, {"prompt": f"1{sign}5, 2; 3", "completion": "a\nb"})
    ]


def test_usual_delimiter_counts_where_the_header_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b;c,d\n1;2,3\n")
    assert [row.row for row in read(path)] == [{"a;b;c": "1;2", "d": "3"}]
    path.write_text("text\na; b\n")
    assert [row.row for row in read(path)] == [{"text": "a; b"}]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_line_with_the_delimiter_is_no_header(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"sep={sign}\r\nq{sign}a\r\n1{sign}2\r\n".encode())
    assert read(path) == [SourceRow("a.csv", 3, {"q": "1", "a": "2"})]


@pytest.mark.parametrize(
    "header",
    [
        "How tall is the wall?,It is exactly two metres.",
        'a,"[{""role"": ""user""}]"',
        "a," + "b" * 201,
        "墙有多高?,墙 高 两 米 。",
    ],
)
def test_first_line_that_is_a_row_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"\n{header}\nc,d\n", encoding="utf-8")
    with pytest.raises(DataSourceError, match="no header line") as caught:
        read(path)
    assert (caught.value.where, caught.value.exit_code) == ("a.csv:2", 2)
    path.write_text(f"q,a\n{header}\nc,d\n", encoding="utf-8")
    assert len(read(path)) == 2


@pytest.mark.parametrize(
    "header",
    ["Timestamp,What is your question?,No.", "0,1,2", ",Prompt text (max. 200 characters),a"],
)
def test_unusual_names_of_columns_are_a_header(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\nb,c,d\n")
    assert [row.row for row in read(path)] == [dict(zip(header.split(","), "bcd", strict=True))]


def test_repeated_header_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q,a\n1,2\nq,a\nq,b\n")
    assert [row.row or row.unparseable for row in read(path)] == [
        {"q": "1", "a": "2"},
        "repeats the header line, as files that were put together do; take it out",
        {"q": "q", "a": "b"},
    ]


def test_bars_may_separate_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q|a\n"1, or|2"|3\n')
    assert [row.row for row in read(path)] == [{"q": "1, or|2", "a": "3"}]
    path.write_text("q|r,a\n1,2\n")
    assert [row.row for row in read(path)] == [{"q|r": "1", "a": "2"}]


def test_messages_as_python_prints_them_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    messages = [{"role": "user", "content": "it's"}, {"role": "assistant", "content": "b"}]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows(
            [["messages"], [str(messages)], [json.dumps(messages)], ["[{'role': 'a'}\n {"]]
        )
    printed, written, by_numpy = read(path)
    assert "as Python prints it" in printed.unparseable
    assert written.row == {"messages": json.dumps(messages)}
    assert "as Python prints it" in by_numpy.unparseable
