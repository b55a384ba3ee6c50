from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources import _compression
from tasks.sources._kinds import data_ending
from tasks.sources._readers import read_file
from tasks.sources.parsing import parse_block


def read(path: Path) -> list[SourceRow]:
    return [row for block in read_file(path, path.name) for row in parse_block(block).rows]


def peak_bytes(path: Path) -> int:
    tracemalloc.start()
    for block in read_file(path, path.name):
        del block
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSourceError, match="not a kind of data file"):
        read(tmp_path / "a.xlsx")


def test_jsonl_keeps_line_numbers_and_says_why_a_line_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": \n{"a": "\xff"}\n{"a": NaN}\n"\\ud800"\n'
        + b"[" * 100_000
        + b'\n{"a": "\xc3\xa4"}\n{"a": "cut o'
    )
    rows = read(path)
    assert [(row.line, row.row) for row in rows if not row.unparseable] == [
        (1, {"a": 1}),
        (4, {"a": "\ufffd"}),
        (8, {"a": "ä"}),
    ]
    assert [(row.line, row.unparseable) for row in rows if row.unparseable] == [
        (3, "not JSON: Expecting value at column 7"),
        (5, "NaN is not JSON"),
        (6, "holds half of a surrogate pair"),
        (7, "nested too deeply"),
        (
            9,
            "not JSON: Unterminated string starting at column 7; the file ends in the middle of this line",
        ),
    ]


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 1000])
def test_blocks_of_any_size_hold_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr("tasks.sources._line_blocks.BLOCK_BYTES", block_bytes)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\n[1]\r\n\n{"b": 2}\n3')
    assert [(row.line, row.row) for row in read(path)] == [(2, [1]), (4, {"b": 2}), (5, 3)]


@pytest.mark.parametrize("block_bytes", [1, 4, 7, 10])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\n5"])
def test_line_that_is_too_long_is_one_unreadable_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, ending: bytes
) -> None:
    monkeypatch.setattr("tasks.sources._line_blocks.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("tasks.sources._line_blocks.LONGEST_LINE_BYTES", 10)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"1234567890\n12345678901\n3\n" + b"4" * 50 + ending)
    long = "longer than 64 MiB"
    found = [(row.line, row.unparseable or row.row) for row in read(path)]
    assert found[:4] == [(1, 1234567890), (2, long), (3, 3), (4, long)]
    assert found[4:] == ([(5, 5)] if ending == b"\n5" else [])


def test_line_of_200_mb_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"a": 1}\n{"b": "')
        stream.seek(200_000_000)  # A hole in the file, read as zeros.
        stream.write(b'"}\n{"c": 3}\n')
    assert [row.unparseable or row.row for row in read(path)] == [
        {"a": 1},
        "longer than 64 MiB",
        {"c": 3},
    ]
    assert peak_bytes(path) < 190_000_000


def test_zero_bytes_do_not_make_a_file_wide(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\0\0\0\0\0\0\0\0\n{"a": 1}\n')
    assert [bool(row.unparseable) for row in read(path)] == [True, False]


def test_json_list_is_numbered_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\ufeff[{"a": 1,\n\n "b": [2]}\r\n, "x", "\\ud800", NaN, 12]\n')
    assert read(path) == [
        SourceRow("a.json", 1, {"a": 1, "b": [2]}),
        SourceRow("a.json", 2, "x"),
        SourceRow("a.json", 3, unparseable="holds half of a surrogate pair"),
        SourceRow("a.json", 4, unparseable="NaN is not JSON"),
        SourceRow("a.json", 5, 12),
    ]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7])
def test_json_list_cut_anywhere_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr("tasks.sources._json_values.CHUNK_BYTES", chunk_bytes)
    values: list[Any] = [
        {"ä": '\U0001f600 "x"\\'},
        -12.5e3,
        1e-7,
        0.25,
        1234567,
        True,
        None,
        [],
        {"b": [{}]},
    ]
    path = tmp_path / "a.json"
    for text in (json.dumps(values), json.dumps(values, indent=2, ensure_ascii=False)):
        path.write_text(text, encoding="utf-8")
        assert [row.row for row in read(path)] == values


def test_json_bytes_that_are_not_utf8_become_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": "\xff"}]')
    assert [row.row for row in read(path)] == [{"a": "\ufffd"}]


def test_json_list_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": "x" * 100_000}] * 600))
    assert peak_bytes(path) < 50_000_000


@pytest.mark.parametrize(
    "text", ['{"a": 1}\n{"a": 2}\n', '{\n"a": 1}\n\n{"a":\n2}', '{"a": 1}\r\n{"a": 2}']
)
def test_json_file_with_objects_one_after_another_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert [(row.line, row.row) for row in read(path)] == [(1, {"a": 1}), (2, {"a": 2})]


def test_json_file_of_lines_keeps_the_rows_around_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    assert [(row.line, bool(row.unparseable)) for row in read(path)] == [
        (1, False),
        (2, True),
        (3, False),
    ]


@pytest.mark.parametrize("text", ['{"rows": []}', '{\n  "rows": []\n}\n'])
def test_json_file_of_one_object_is_one_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert [row.row for row in read(path)] == [{"rows": []}]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("3", "is not a list of rows"),
        ("[1,", "it ends in the middle"),
        ('[1,\n{"a": "b', "it ends in the middle"),
        ("[1", "it ends in the middle"),
        ("[1 2]", "Expecting ',' delimiter"),
        ("[1,]", "Expecting value"),
        ("[1] 2", "more text after the end of the list"),
        ('{\n"a": \n', "it ends in the middle"),
        ('[{"a": 1} {"b": ' + '"x",' * 9, "Expecting ',' delimiter"),
        ("nonsense", "Expecting value"),
        ("\x89PNG\x00", "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_json_file_that_holds_no_rows_is_refused(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataSourceError, match=what):
        read(path)


def test_json_fault_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.sources._json_values.CHUNK_BYTES", 8)
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n{"a": 2},\n{"a": oops}, {"b": "a long end of the file"}]')
    with pytest.raises(DataSourceError) as caught:
        read(path)
    assert caught.value.where == "a.json:3"


def test_json_value_that_never_ends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources._json_values.LONGEST_LINE_BYTES", 100)
    monkeypatch.setattr("tasks.sources._json_values.CHUNK_BYTES", 10)
    path = tmp_path / "a.json"
    path.write_text('["' + "x" * 1000 + '"]')
    with pytest.raises(DataSourceError, match="a value longer than 64 MiB"):
        read(path)


KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")


def write_kind(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows by the ending of the name, packed if the name says so."""
    from pyarrow import csv, parquet

    kind, packing = data_ending(path.name) or ("", "")
    table = pyarrow.Table.from_pylist(rows)
    sink = pyarrow.BufferOutputStream()
    if kind == ".parquet":
        parquet.write_table(table, sink)
    elif kind in (".arrow", ".feather"):
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif kind in (".csv", ".tsv"):
        delimiter = "," if kind == ".csv" else "\t"
        csv.write_csv(table, sink, csv.WriteOptions(delimiter=delimiter))
    elif kind == ".json":
        sink.write(json.dumps(rows).encode())
    else:
        sink.write("\n".join(json.dumps(row) for row in rows).encode())
    content = sink.getvalue().to_pybytes()
    codec = {"": None, ".gz": "gzip", ".zst": "zstd"}[packing]
    if codec:
        packed = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(packed, codec) as stream:
            stream.write(content)
        content = packed.getvalue().to_pybytes()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "packing"), list(itertools.product(KINDS, ("", ".gz", ".zst", ".GZ")))
)
def test_every_kind_is_read_plain_and_packed(tmp_path: Path, kind: str, packing: str) -> None:
    rows = [{"prompt": f"a {number}", "completion": 'ä, "b"\n'} for number in range(3000)]
    path = tmp_path / f"a{kind}{packing}"
    write_kind(path, rows)
    assert [row.row for row in read(path)] == rows


def test_packed_file_of_several_members_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"1\n", mtime=0) + gzip.compress(b"2\n"))
    assert [row.row for row in read(path)] == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_packed_file_that_was_cut_off_is_refused(tmp_path: Path, kind: str, packing: str) -> None:
    path = tmp_path / f"a{kind}{packing}"
    write_kind(path, [{"prompt": f"{number * 7919 % 10007}"} for number in range(3000)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataSourceError, match=f"a{kind}{packing} cannot be unpacked") as caught:
        read(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_text_under_the_name_of_a_packed_file_is_refused(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"a.jsonl{packing}"
    path.write_text('{"a": 1}\n')
    with pytest.raises(DataSourceError, match="cannot be unpacked"):
        read(path)


def test_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json.gz", "a.parquet", "a.parquet.zst"):
        with pytest.raises(DataSourceError, match=f"{name} cannot be read: No such file"):
            read(tmp_path / name)


def write_bomb(folder: Path, kind: str) -> Path:
    """Write a small file whose rows have millions of characters."""
    path = folder / f"a.{kind}"
    row = {"prompt": "x" * 10_000, "completion": "b"}
    if kind == "jsonl.gz":
        path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode() * 500))
    else:
        table = pyarrow.Table.from_pylist([row] * 500)
        pyarrow.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", ["jsonl.gz", "parquet"])
def test_file_whose_rows_are_many_times_its_size_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bomb(tmp_path, kind)
    size = path.stat().st_size
    assert len(read(path)) == 500
    monkeypatch.setattr(_compression, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(_compression, "MOST_TIMES", 4_500_000 // size)
    with pytest.raises(DataSourceError, match=r"a\.\S+ unpacks to more") as caught:
        read(path)
    assert "as .jsonl" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl.gz", b"\n"), ("a.json.gz", b" "), ("a.parquet.gz", b"PAR1")]
)
def test_file_that_unpacks_to_blanks_or_no_table_is_refused_before_it_is_copied(
    tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content * 8_000_000))
    monkeypatch.setattr(_compression, "MOST_BYTES", 5_000_000)
    monkeypatch.setattr(_compression, "MOST_TIMES", 10)
    with pytest.raises(DataSourceError, match=r"a\.\S+ unpacks to more"):
        read(path)
