"""JSON Lines between the stages: one object a line, UTF-8, equal input gives equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def json_line(value: Any) -> str:
    """Return a value as JSON on one line, with its line feed."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the value of each line that `json_line` wrote."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield json.loads(line)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a small file of JSON objects."""
    return list(read_lines(path))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows, one JSON object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json_line(row) for row in rows)
