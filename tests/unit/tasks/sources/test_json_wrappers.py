from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.data_files import read_rows, refused, rows_after

PAIRS = [{"prompt": f"How tall is wall {number}?", "completion": "å"} for number in range(4)]
CHATS: list[dict[str, Any]] = [
    {"id": str(number), "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for number in range(4)
]  # fmt: skip
SHAREGPT = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 4
OTHERS = [{"frage": f"Wie hoch ist Mauer {number}?", "antwort": "ä"} for number in range(4)]
NAMES = ("a.json", "a.jsonl")


def read(path: Path) -> list[Any]:
    return [row.row for row in read_rows(path)]


@pytest.mark.parametrize("rows", [PAIRS, CHATS, SHAREGPT], ids=["pairs", "chats", "sharegpt"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("indent", [None, 1])
def test_rows_are_found_wherever_an_object_has_them(
    tmp_path: Path, rows: list[Any], name: str, indent: int | None
) -> None:
    wrapped: list[Any] = [
        {"data": rows},
        {"dataset": {"data": rows}},
        {"version": 1, "result": {"page": {"rows": rows}}},
        {"conversations": rows},
        {"title": "My set", "created_by": "me", "examples": rows},
        {"info": [{"author": "x"}], "data": rows},
        {"schema": {"fields": [{"name": "prompt"}, {"name": "completion"}]}, "data": rows},
        {"features": [{"name": "a"}], "rows": [{"row_idx": 0, "row": row} for row in rows]},
    ]
    for value in wrapped:
        (tmp_path / name).write_text(json.dumps(value, indent=indent))
        assert read(tmp_path / name) == rows, value


@pytest.mark.parametrize("name", NAMES)
def test_rows_by_their_id_are_rows_with_it(tmp_path: Path, name: str) -> None:
    for rows in (PAIRS, OTHERS, PAIRS[:1]):
        by_id = {f"row {place}": row for place, row in enumerate(rows)}
        for value in (by_id, {"data": by_id}):
            (tmp_path / name).write_text(json.dumps(value))
            assert read(tmp_path / name) == [{"id": key, **row} for key, row in by_id.items()]
    (tmp_path / name).write_text(json.dumps({f"c{row['id']}": row for row in CHATS}))
    assert read(tmp_path / name) == CHATS


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_other_names_are_found_in_the_only_object(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"dataset": {"version": "2", "data": OTHERS}}))
    assert read(tmp_path / name) == OTHERS


@pytest.mark.parametrize("rows", [PAIRS, CHATS], ids=["pairs", "chats"])
@pytest.mark.parametrize("name", NAMES)
def test_lists_and_pages_are_read_one_after_another(
    tmp_path: Path, rows: list[Any], name: str
) -> None:
    halves = (rows[:1], rows[1:])
    texts = [
        "\n".join(map(json.dumps, halves)),
        "\n".join(json.dumps([row]) for row in rows),
        "\n".join(json.dumps(half, indent=2) for half in halves),
        json.dumps(halves),
        "\n".join(json.dumps({"data": half, "has_more": True}) for half in halves),
        json.dumps([{"data": half} for half in halves]),
        json.dumps([{"data": rows}]),
    ]
    for text in texts:
        (tmp_path / name).write_text(text)
        assert read(tmp_path / name) == rows, text


def test_first_object_longer_than_a_chunk_has_its_rows_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources._json_layout.CHUNK_BYTES", 50)
    for value in ({"a": {"rows": PAIRS}}, {"prompt": ["a"] * 20, "completion": ["b"] * 20}):
        (tmp_path / "a.jsonl").write_text(json.dumps(value))
        if "a" in value:
            assert read(tmp_path / "a.jsonl") == PAIRS
        else:
            refused(tmp_path / "a.jsonl", json.dumps(value))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]},
        {"conversation_id": "c", "turns": [{"prompt": "a", "response": "b"}] * 2},
        {"question_text": "a", "answer_text": "b", "few_shot": [{"question": "c", "answer": "d"}]},
        {"question": "a", "answer": "b", "data": [{"question": "c", "answer": "d"}]},
        {"prompt": {"role": "user", "content": "a"}, "completion": {"role": "assistant"}},
        {"prompt": "a", "completion": "b", "keywords": ["c", "d"], "scores": [1, 2]},
        {"question": "a", "answer": "b", "table": {"header": ["x", "y"], "rows": [["1", "2"]]}},
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_objects_that_are_rows_stay_rows(tmp_path: Path, name: str, row: dict[str, Any]) -> None:
    for text in (
        f"{json.dumps(row)}\n" * 3,
        json.dumps([row] * 3),
        json.dumps([row] * 3, indent=1),
    ):
        (tmp_path / name).write_text(text)
        assert read(tmp_path / name) == [row] * 3


def test_several_lists_of_rows_are_refused_with_a_command_for_one(tmp_path: Path) -> None:
    value = {"info": [{"n": 1}], "splits": {"train": PAIRS, "test": PAIRS[:1]}}
    error = refused(tmp_path / "a.json", json.dumps(value))
    assert error.got == "splits.train (4), splits.test (1)"
    assert rows_after(error.fix, tmp_path, "splits-train.jsonl") == PAIRS


@pytest.mark.parametrize("shared", [{"system": "Be brief."}, {"tools": [{"type": "function"}]}])
def test_what_applies_to_all_rows_is_not_lost(tmp_path: Path, shared: dict[str, Any]) -> None:
    for value in ({**shared, "data": PAIRS}, {"all": {"data": PAIRS, **shared}}):
        error = refused(tmp_path / "a.json", json.dumps(value))
        rows = rows_after(error.fix, tmp_path, "rows.jsonl")
        assert rows == [{**row, **shared} for row in PAIRS]


def test_messages_by_id_are_refused_with_the_command_that_writes_their_rows(tmp_path: Path) -> None:
    by_id = {f"c{row['id']}": row["messages"] for row in CHATS}
    error = refused(tmp_path / "a.json", json.dumps(by_id))
    rows = rows_after(error.fix, tmp_path, "rows.jsonl")
    assert rows == [{"id": name, "messages": messages} for name, messages in by_id.items()]
    pair = {"chosen": CHATS[0]["messages"], "rejected": CHATS[1]["messages"]}
    (tmp_path / "a.json").write_text(json.dumps(pair))
    assert read(tmp_path / "a.json") == [pair]


def test_page_of_the_hub_with_cut_texts_is_refused(tmp_path: Path) -> None:
    items = [{"row_idx": 0, "row": PAIRS[0], "truncated_cells": ["prompt"]}]
    error = refused(tmp_path / "a.json", json.dumps({"features": [], "rows": items}))
    assert "cut texts of 1 row" in error.what
