from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.sources._readers import read_file
from tests.support.data_files import read_rows, refused

ROWS = [
    {"messages": [{"role": "user", "content": f"How tall is wall {number}?"}, {"role": "assistant", "content": "Två\nmeter. {x}"}]}
    for number in range(12)
]  # fmt: skip
NAMES = ("a.jsonl", "a.ndjson", "a.json")


def notes(path: Path) -> set[str]:
    return {block.note for block in read_file(path, path.name)}


def pretty(rows: list[Any]) -> list[str]:
    return [json.dumps(row, indent=2, ensure_ascii=False) for row in rows]


LAYOUTS = {
    "lines": "\n".join(map(json.dumps, ROWS)),
    "list": json.dumps(ROWS),
    "indented list": json.dumps(ROWS, indent=2),
    "list indented by tabs": json.dumps(ROWS, indent="\t", ensure_ascii=False),
    "list not indented": json.dumps(ROWS, indent=0),
    "list of lines": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]",
    "list with its bracket in the first line": "[" + ",\n".join(map(json.dumps, ROWS)) + "]",
    "one after another": "".join(map(json.dumps, ROWS)),
    "one after another with blanks": "  ".join(map(json.dumps, ROWS)),
    "indented objects": "\n".join(pretty(ROWS)),
    "indented objects in a row": "".join(pretty(ROWS)),
    "indented objects between empty lines": "\n\n" + "\n\n\n".join(pretty(ROWS)) + "\n\n",
    "two on each line": "\n".join(
        json.dumps(first) + json.dumps(second)
        for first, second in zip(ROWS[::2], ROWS[1::2], strict=True)
    ),
    "lines that end in carriage returns": "\r".join(map(json.dumps, ROWS)),
    "object with a list": json.dumps({"version": "1.0", "data": ROWS}),
    "indented object with a list": json.dumps({"meta": {"n": 1}, "rows": ROWS}, indent=1),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_layout_gives_the_same_rows(
    tmp_path: Path, text: str, name: str, ending: str, mark: str
) -> None:
    path = tmp_path / name
    path.write_bytes((mark + text.replace("\n", ending)).encode())
    assert [row.row for row in read_rows(path)] == ROWS
    assert len({row.line for row in read_rows(path)}) == len(ROWS)


@pytest.mark.parametrize(
    ("layout", "note"),
    [
        ("lines", ""),
        ("indented list", "json_list_split"),
        ("one after another", "json_objects_split"),
        ("object with a list", "json_objects_split"),
    ],
)
def test_layout_that_the_name_does_not_tell_is_noted(
    tmp_path: Path, layout: str, note: str
) -> None:
    for name in NAMES:
        (tmp_path / name).write_text(LAYOUTS[layout])
        assert notes(tmp_path / name) == {"" if name == "a.json" else note}


@pytest.mark.parametrize("name", NAMES)
def test_layout_of_a_first_line_longer_than_a_chunk_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("tasks.sources._json_layout.CHUNK_BYTES", 150)
    for layout, text in LAYOUTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert [row.row for row in read_rows(tmp_path / name)] == ROWS, layout


def test_list_of_one_line_longer_than_any_line_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources._line_blocks.LONGEST_LINE_BYTES", 200)
    monkeypatch.setattr("tasks.sources._line_blocks.BLOCK_BYTES", 100)
    monkeypatch.setattr("tasks.sources._json_layout.CHUNK_BYTES", 150)
    for layout in ("list", "one after another"):
        path = tmp_path / "a.jsonl"
        path.write_text(LAYOUTS[layout])
        assert [row.row for row in read_rows(path)] == ROWS


def test_long_first_line_of_lines_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources._json_layout.CHUNK_BYTES", 20)
    path = tmp_path / "a.jsonl"
    rows = [{"chat": [{"role": "user", "content": "a"}]}, {"messages": [{"a": 1}]}, {"a": "b" * 50}]
    for first in rows:
        path.write_text(json.dumps(first) + "\n\noops\n" + json.dumps(first))
        assert [row.line for row in read_rows(path)] == [1, 3, 4]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0, 3, 11])
@pytest.mark.parametrize(
    "broken",
    ['{"messages": [', '{"messages": [}', "{'messages': []}", "oops", "{}{}", '{"a": NaN}', "]"],
)
def test_broken_line_among_lines_is_one_row(
    tmp_path: Path, name: str, place: int, broken: str
) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[place] = broken
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    rows = read_rows(tmp_path / name)
    assert [row.line for row in rows] == list(range(1, 13))
    assert [row.line for row in rows if row.unparseable] == [place + 1]


def test_last_line_that_was_cut_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    text = "\n".join(map(json.dumps, ROWS))
    for n_cut in (1, 30, 80):
        path.write_text(text[:-n_cut])
        *whole, last = read_rows(path)
        assert len(whole) == 11
        assert "the file ends in the middle of this line" in last.unparseable
    path.write_text(text[:-30] + "\n")
    assert "the file ends" not in read_rows(path)[-1].unparseable


def test_lines_as_python_prints_them_are_rows_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(str, ROWS)))
    rows = read_rows(path)
    assert len(rows) == 12
    assert all("single quotes, as Python prints it" in row.unparseable for row in rows)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[\n{"a": 1},\n{"a": 2},\n]', 4, "a comma before the closing bracket"),
        ('[\n{"a": 1,\n"b": [2,\n]},\n{"a": 2}]', 4, "a comma before the closing bracket"),
        ('{\n"a": 1,\n}\n{\n"a": 2\n}', 3, "a comma before the closing bracket"),
        ('// rows\n[\n{"a": 1}\n]', 1, "a comment"),
        ('[\n{"a": 1}, // first\n{"a": 2}\n]', 2, "a comment"),
        ('[\n{\n"a": /* one */ 1}\n]', 3, "a comment"),
        ("# rows\n[\n1\n]", 1, "a comment"),
        ("[\n{'a': 1},\n{'a': 2}\n]", 2, "single quotes"),
        ("[\n{a: 1},\n{a: 2}\n]", 2, "a name without quotes"),
        ('[\n{\n"a": None\n}\n]', 3, "None is no JSON value"),
        ('[\n{"a": 1}\n{"a": 2}\n{"a": 3}\n]', 3, "Expecting ',' delimiter"),
        ('{"a": 1},\n{"a": 2},\n{"a": 3},\n', 1, "a comma after an object that is in no list"),
        ('[\n{"a": 1},\n{"a": 2}', 3, "it ends in the middle"),
        ("Once upon a time\nthere was a wall.\n", 1, "Expecting value"),
    ],
)
def test_document_with_an_error_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str, line: int, what: str
) -> None:
    error = refused(tmp_path / name, text)
    # Of a comma that closes a list, Python 3.13 names the line, older ones that of the bracket.
    lines = (line, line - 1) if "a comma before the closing bracket" in what else (line,)
    assert error.where in {f"{name}:{each}" for each in lines}
    assert what in error.what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user"}]},
        {"messages": [{"text": "a"}]},
        {"conversations": [{"from": "human", "value": "a"}]},
        {"chat": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"content": "b"}]},
        {"rows": []},
        {"rows": ["a", "b"]},
        {"question": ["a"], "answer": ["b"]},
        {"meta": {"a": 1}, "more": {"b": 2}},
        {"question": "a", "answer": "b", "contexts": [{"text": "c"}, {"text": "d"}]},
    ],
)
def test_single_object_that_is_a_row_stays_one(
    tmp_path: Path, name: str, row: dict[str, Any]
) -> None:
    for text in (json.dumps(row), json.dumps(row, indent=2)):
        (tmp_path / name).write_text(text)
        assert [found.row for found in read_rows(tmp_path / name)] == [row]


@pytest.mark.parametrize("name", NAMES)
def test_object_among_others_is_a_row_whatever_it_has(tmp_path: Path, name: str) -> None:
    row = {"data": [{"a": 1}]}
    for text in (f"{json.dumps(row)}\n" * 2, json.dumps(row, indent=1) * 2):
        (tmp_path / name).write_text(text)
        assert [found.row for found in read_rows(tmp_path / name)] == [row] * 2


@pytest.mark.parametrize("name", NAMES)
def test_values_of_a_wrapped_list_are_as_they_were(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(
        '{"data": [{"a": "\\u00e5", "b": 1.5e3}, {"a": NaN}, {"a": "\\ud800"}, {"a": 1'
        + "0" * 30
        + "}]}"
    )
    rows = read_rows(tmp_path / name)
    assert rows[0].row == {"a": "å", "b": 1500.0}
    assert [row.unparseable for row in rows[1:]] == [
        "NaN is not JSON",
        "holds half of a surrogate pair",
        "holds an integer beyond 64 bits",
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"train": [{"a": 1}] * 2, "test": [{"a": 1}]}, "several lists of rows"),
        ({"prompt": ["a", "b"], "completion": ["c", "d"]}, "a list for each column"),
        ({"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}}, "for each column"),
    ],
)
def test_object_that_is_no_row_is_refused(
    tmp_path: Path, value: dict[str, Any], what: str, indent: int | None
) -> None:
    for name in NAMES:
        error = refused(tmp_path / name, json.dumps(value, indent=indent))
        assert what in error.what
    if "train" in value:
        assert error.got == "train (2), test (1)"
        assert "jq -c '.[\"train\"][]' a.json > train.jsonl" in error.fix


def test_lists_in_lines_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('[{"a": 1}]\n[{"a": 2}]\n')
    assert [row.row for row in read_rows(path)] == [[{"a": 1}], [{"a": 2}]]
    path.write_text("[1]\n")
    assert [row.row for row in read_rows(path)] == [[1]]


@pytest.mark.parametrize("name", NAMES)
def test_texts_that_are_json_are_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    texts = [json.dumps(json.dumps(row, indent=2)) for row in ROWS]
    path.write_text("\n".join([*texts[:6], "", '"no JSON"', "oops", *texts[6:]]) + "\n")
    rows = read_rows(path)
    assert [row.row for row in rows if isinstance(row.row, dict)] == ROWS
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6, *range(8, 16)]
    assert rows[6].row == "no JSON"
    assert rows[7].unparseable
    assert notes(path) == {"json_texts_parsed"}


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_texts_are_not_taken_for_json(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('"one"\n"two"\n')
    if name == "a.json":
        refused(tmp_path / name, '"one"\n"two"\n')
    else:
        assert [row.row for row in read_rows(tmp_path / name)] == ["one", "two"]


def test_file_that_is_one_text_of_json_is_refused_with_the_way_out(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.json", json.dumps(json.dumps(ROWS)))
    assert error.fix == "take it out of its quotes: jq -r . a.json > rows.json"
    assert "one list" in refused(tmp_path / "a.json", '"text"').fix


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gap", ["\n\n", "\r\n\r\n", "\n"])
def test_event_stream_is_rows(tmp_path: Path, name: str, gap: str) -> None:
    path = tmp_path / name
    events = [f"data: {json.dumps(row, ensure_ascii=False)}" for row in ROWS]
    text = gap.join(
        [": hello", f"event: row{gap[0]}id: 3{gap[-1]}{events[0]}", *events[1:], "data: [DONE]", ""]
    )
    path.write_bytes(text.replace("\r", "\r\n").replace("\r\n\n", "\r\n").encode())
    assert [row.row for row in read_rows(path)] == ROWS
    assert notes(path) == {"json_events_split"}


def test_commas_after_objects_have_the_way_out(tmp_path: Path) -> None:
    text = ",\n".join(pretty(ROWS))
    error = refused(tmp_path / "a.json", text)
    assert error.fix.startswith("put [ before the first object")
    (tmp_path / "a.json").write_text(f"[{text}]", encoding="utf-8")
    assert [row.row for row in read_rows(tmp_path / "a.json")] == ROWS
