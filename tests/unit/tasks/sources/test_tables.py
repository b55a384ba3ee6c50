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
    for content in (b"", b"PAR1 no more", whole[:-20], damaged):
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


def arrow_file(path: Path, rows: list[dict[str, Any]], *, is_stream: bool, codec: str = "") -> Path:
    options = pyarrow.ipc.IpcWriteOptions(compression=codec or None)
    table = pyarrow.Table.from_pylist(rows)
    new = pyarrow.ipc.new_stream if is_stream else pyarrow.ipc.new_file
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=7)
    return path


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("codec", ["", "zstd", "lz4"])
@pytest.mark.parametrize("name", ["a.arrow", "a.feather"])
def test_arrow_files_of_both_formats_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, is_stream: bool
) -> None:
    monkeypatch.setattr("tasks.sources._tables.BATCH_ROWS", 3)
    rows = [{"prompt": f"a {number}", "completion": None} for number in range(20)]
    path = arrow_file(tmp_path / name, rows, is_stream=is_stream, codec=codec)
    assert read(path) == [SourceRow(name, number + 1, row) for number, row in enumerate(rows)]


def test_feather_file_is_read(tmp_path: Path) -> None:
    from pyarrow import feather

    feather.write_feather(pyarrow.table({"prompt": ["å"]}), str(tmp_path / "a.feather"))
    assert [row.row for row in read(tmp_path / "a.feather")] == [{"prompt": "å"}]


@pytest.mark.parametrize("is_stream", [True, False])
def test_arrow_file_that_was_cut_off_is_refused(tmp_path: Path, is_stream: bool) -> None:
    rows = [{"prompt": f"a {number}"} for number in range(20)]
    whole = arrow_file(tmp_path / "whole", rows, is_stream=is_stream).read_bytes()
    path = tmp_path / "a.arrow"
    for n_bytes in (0, 4, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(DataSourceError, match="not a readable Arrow file") as caught:
            read(path)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("kind", ["stream", "file", "parquet"])
def test_nulls_of_arrow_are_taken_out_of_every_kind_of_table(tmp_path: Path, kind: str) -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": {"word": "x"}}}
    other = {"id": "b", "function": {"name": "g", "arguments": {"n": 1}}}
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [one]}]}
        for one in (call, other)
    ]
    path = tmp_path / ("a.parquet" if kind == "parquet" else "a.arrow")
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        arrow_file(path, rows, is_stream=kind == "stream")
    found = [row.row["messages"] for row in read(path)]
    assert [messages[1]["tool_calls"] for messages in found] == [[call], [other]]
    assert [messages[0] for messages in found] == [{"role": "user", "content": "a"}] * 2


@pytest.mark.parametrize("name", ["a.arrow", "a.parquet"])
def test_json_columns_are_parsed_and_keep_their_own_nulls(tmp_path: Path, name: str) -> None:
    kind = pyarrow.json_(pyarrow.string())
    texts = ['{"x": {"y": null}}', None, "[1]"]
    column = pyarrow.ExtensionArray.from_storage(kind, pyarrow.array(texts))
    nested = pyarrow.StructArray.from_arrays([column], ["inner"])
    plain = pyarrow.array(texts)
    table = pyarrow.table({"a": column, "b": nested, "c": plain})
    if name == "a.parquet":
        parquet.write_table(table, tmp_path / name)
    else:
        with pyarrow.ipc.new_stream(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    rows = [row.row for row in read(tmp_path / name)]
    assert [row["a"] for row in rows] == [{"x": {"y": None}}, None, [1]]
    assert [row["b"] for row in rows] == [{"inner": {"x": {"y": None}}}, {}, {"inner": [1]}]
    assert [row["c"] for row in rows] == texts


@pytest.mark.parametrize("is_stream", [True, False])
def test_arrow_file_whose_offsets_lead_elsewhere_is_refused(
    tmp_path: Path, is_stream: bool
) -> None:
    table = pyarrow.table({"prompt": ["abcdefg"] * 3, "completion": [["a", "b"]] * 3})
    path = tmp_path / "a.arrow"
    opened = pyarrow.ipc.new_stream if is_stream else pyarrow.ipc.new_file
    with opened(path, table.schema) as writer:
        writer.write_table(table)
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 2, 4, 6))
    content = path.read_bytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, offsets[:-4] + (1024).to_bytes(4, "little")))
    with pytest.raises(DataSourceError, match="not a readable Arrow file") as caught:
        list(read_file(path, path.name))
    assert caught.value.exit_code == 2
