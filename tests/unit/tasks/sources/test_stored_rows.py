from __future__ import annotations

from pathlib import Path

import pytest

import tasks.sources._line_blocks
import tasks.sources.stored_rows
from schemas.rows.recognition import recognise
from schemas.rows.row import Conversation, RowFormat, SourceRow
from tasks.engine.jsonl import json_line, write_jsonl
from tasks.sources.parsing import parse_block
from tasks.sources.stored_rows import kept_blocks, stored_parts


def test_rows_come_back_with_the_place_they_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.sources.stored_rows, "BLOCK_ROWS", 2)
    rows = [
        SourceRow("a.csv", 3, {"prompt": "a", "completion": "å\u2028"}),
        SourceRow("a.csv", 7, [1, None]),
        SourceRow("b.csv", 1, unparseable="not JSON"),
        SourceRow("b.csv", 2, None),
        SourceRow("b.csv", 3, "x"),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json_line(row.to_json()) for row in rows), encoding="utf-8")
    [blocks] = [list(part) for part in stored_parts(path)]
    assert [(block.file, block.first_line) for block in blocks] == [
        ("a.csv", 3),
        ("b.csv", 1),
        ("b.csv", 3),
    ]
    assert [row for block in blocks for row in parse_block(block).rows] == rows


def test_rows_of_each_source_are_a_part_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.sources.stored_rows, "BLOCK_ROWS", 2)
    rows = [SourceRow("a/x.csv", 1), *(SourceRow("b/x.csv", line) for line in (1, 2, 3))]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json_line(row.to_json()) for row in rows), encoding="utf-8")
    parts = [
        [(block.file, block.first_line) for block in part] for part in stored_parts(path, (1, 3))
    ]
    assert parts == [[("a/x.csv", 1)], [("b/x.csv", 1), ("b/x.csv", 3)]]


def test_no_rows_make_no_block(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    assert [list(part) for part in stored_parts(tmp_path / "rows.jsonl")] == [[]]
    assert list(kept_blocks(tmp_path / "rows.jsonl")) == []


def test_conversations_come_back_block_by_block_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.sources._line_blocks, "BLOCK_BYTES", 600)
    tool = {"type": "function", "function": {"name": "measure"}}
    conversations = [
        Conversation(
            "a.csv",
            number * 10,
            list(RowFormat)[number % 4],
            [
                {"role": "user", "content": f"å {number}\u2028"},
                {"role": "assistant", "content": "b"},
            ],
            n_prompt_messages=1 if number % 2 else None,
            tools=[tool] if number % 3 else None,
            columns={"n": number, "topic": "walls", "is_good": True, "score": 0.5},
        )
        for number in range(1, 12)
    ]
    path = tmp_path / "kept.jsonl"
    write_jsonl(path, (found.to_json() for found in conversations))
    blocks = list(kept_blocks(path))
    assert len(blocks) > 2
    rows = [row for block in blocks for row in parse_block(block).rows]
    assert [recognise(row) for row in rows] == [(found, frozenset(), []) for found in conversations]
