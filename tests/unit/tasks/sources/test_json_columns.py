from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.data_files import read_rows, refused, rows_after

CHATS: list[dict[str, Any]] = [
    {"id": str(number), "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for number in range(4)
]  # fmt: skip
NAMES = ("a.json", "a.jsonl")


def read(path: Path) -> list[Any]:
    return [row.row for row in read_rows(path)]


COLUMNS: dict[str, dict[str, Any]] = {
    "lists": {"prompt": ["a", "b"], "completion": ["c", "d"]},
    "lists with numbers and nulls": {"prompt": ["a", "b"], "completion": ["c", "d"], "n": [1.5, None]},
    "lists of messages": {"messages": [row["messages"] for row in CHATS]},
    "lists of other names": {"frage": ["a", "b"], "antwort": ["c", "d"], "tags": [["x"], []]},
    "lists with objects": {"prompt": ["a", "b"], "completion": ["c", "d"], "meta": [{"n": 1}, {"n": 2}]},
    "as pandas does": {"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}},
    "messages as pandas does": {"messages": {str(n): row["messages"] for n, row in enumerate(CHATS)}},
    "split": {"columns": ["prompt", "completion"], "index": [0, 1], "data": [["a", "c"], ["b", "d"]]},
    "split of other names": {"header": ["frage", "antwort"], "rows": [["a", "c"], ["b", "d"]]},
    "one level down": {"train": {"prompt": ["a", "b"], "completion": ["c", "d"]}},
}  # fmt: skip


@pytest.mark.parametrize("value", COLUMNS.values(), ids=COLUMNS.keys())
@pytest.mark.parametrize("indent", [None, 2])
def test_table_by_columns_is_refused_with_the_command_that_writes_its_rows(
    tmp_path: Path, value: dict[str, Any], indent: int | None
) -> None:
    for name in NAMES:
        error = refused(tmp_path / name, json.dumps(value, indent=indent))
    if indent is None:
        rows = rows_after(error.fix, tmp_path, "rows.jsonl")
        assert len(rows) == (4 if "messages" in value else 2)
        first = next(iter(rows[0].values()))
        assert first == (CHATS[0]["messages"] if "messages" in value else "a")
