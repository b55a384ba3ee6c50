from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources._readers import read_file
from tasks.sources._tables import prune_nulls
from tasks.sources.parsing import parse_block
from tests.support.parts import FLOW


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
    monkeypatch.setattr("tasks.sources._tables.LONGEST_CELL", 10)
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


def test_parquet_values_become_plain_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    row = {
        "messages": [{"role": "user", "content": "a"}],
        "day": datetime.date(2026, 1, 2),
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "price": Decimal("1.50"),
        "score": float("nan"),
        "raw": b"gr\xfcn",
        "nothing": None,
    }
    parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    assert [row.row for row in read(path)] == [
        {
            "messages": [{"role": "user", "content": "a"}],
            "day": "2026-01-02",
            "at": "2026-01-02 03:04:05",
            "price": "1.50",
            "score": None,
            "raw": "gr\ufffdn",
            "nothing": None,
        }
    ]


def test_parquet_maps_become_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    kind = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    parquet.write_table(pyarrow.table({"a": pyarrow.array([[("x", 1)]], kind)}), path)
    assert [row.row for row in read(path)] == [{"a": {"x": 1}}]


def test_parquet_text_that_is_not_utf8_gets_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pyarrow.array([b"fine", b"\xff bad"])
    text = pyarrow.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    messages = pyarrow.ListArray.from_arrays(
        [0, 1, 2], pyarrow.StructArray.from_arrays([text], ["content"])
    )
    parquet.write_table(pyarrow.table({"messages": messages, "n": [1, 2]}), path)
    assert [row.row for row in read(path)] == [
        {"messages": [{"content": "fine"}], "n": 1},
        {"messages": [{"content": "\ufffd bad"}], "n": 2},
    ]


def test_parquet_row_that_python_cannot_hold_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    days = pyarrow.array([0, 10_000_000], pyarrow.int32()).cast(pyarrow.date32())
    parquet.write_table(pyarrow.table({"day": days}), path)
    rows = read(path)
    assert rows[0].row == {"day": "1970-01-01"}
    assert rows[1].unparseable.startswith("not readable: ")


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": [f"{number}" for number in range(5000)]}), path)
    whole = path.read_bytes()
    damaged = whole[:200] + bytes(200) + whole[400:]
    for content in (b"", b"PAR1 no more", b'{"a": 1}\n', whole[:-20], damaged):
        path.write_bytes(content)
        with pytest.raises(DataSourceError, match="not a readable Parquet file"):
            read(path)


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool(name: str, **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def tool_rows() -> list[dict[str, Any]]:
    """Rows whose tools, arguments and messages have different keys."""
    return [
        {
            "messages": [
                {"role": "user", "content": "Weather?", "weight": 0},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [call("weather", {"city": "Lund", "days": [1, 2]})],
                },
                {"role": "tool", "content": "rain", "tool_call_id": "1"},
                {"role": "assistant", "content": "Rain."},
            ],
            "tools": [tool("weather", city={"type": "string"}, days={"type": "array"})],
            "note": None,
        },
        {
            "messages": [
                {"role": "user", "content": "Time?"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [call("now", {}), call("zone", {"at": {"lat": 55.7}})],
                },
                {"role": "assistant", "content": "Noon."},
            ],
            "tools": [tool("now"), tool("zone", at={"type": "object", "required": ["lat"]})],
            "note": "x",
        },
    ]


@pytest.mark.parametrize("library", ["pyarrow", pytest.param("datasets", marks=FLOW.mark)])
def test_tool_calls_survive_the_way_through_parquet(tmp_path: Path, library: str) -> None:
    rows = tool_rows()
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    if library == "datasets":
        import datasets

        datasets.Dataset.from_list(rows).to_parquet(table)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    assert [row.row for row in read(table)] == [row.row for row in read(lines)] == rows


def test_prune_nulls_keeps_the_rows_own_and_those_of_a_text() -> None:
    row = {
        "messages": [{"role": "user", "content": None, "name": None}, None],
        "conversations": [{"from": "gpt", "value": None, "weight": None}],
        "both": [{"from": "gpt", "value": "a", "content": None, "role": None}],
        "neither": [{"from": "gpt", "value": None, "content": None, "role": None}],
        "tools": [{"name": "f", "parameters": {"a": None, "enum": [None, 1]}}],
        "text": '{"a": null}',
        "prompt": None,
    }
    assert prune_nulls(row) == {
        "messages": [{"role": "user", "content": None}, None],
        "conversations": [{"from": "gpt", "value": None}],
        "both": [{"from": "gpt", "value": "a"}],
        "neither": [{"from": "gpt", "value": None}],
        "tools": [{"name": "f", "parameters": {"enum": [None, 1]}}],
        "text": '{"a": null}',
        "prompt": None,
    }


def test_nulls_of_a_json_file_stay(tmp_path: Path) -> None:
    row = {"messages": [{"role": "assistant", "tool_calls": [call("f", {"a": None})]}]}
    for name, text in (("a.jsonl", json.dumps(row)), ("a.json", json.dumps([row]))):
        (tmp_path / name).write_text(text)
        assert [found.row for found in read(tmp_path / name)] == [row]
