"""JSON Lines between the stages: one object a line, UTF-8, equal input gives equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def json_line(value: Any) -> str:
    """Write a value as one line.

    Args:
        value: Anything JSON can hold.

    Returns:
        The line with its line feed.
    """
    return json.dumps(value, ensure_ascii=False) + "\n"


def read_lines(path: Path) -> Iterator[Any]:
    """Read a file of lines that `json_line` wrote, one at a time.

    Args:
        path: The file.

    Yields:
        The value of each line.
    """
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield json.loads(line)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a small file of JSON objects whole.

    Args:
        path: The file.

    Returns:
        Its rows.
    """
    return list(read_lines(path))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows, one JSON object a line.

    Args:
        path: The file.
        rows: Its rows.
    """
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json_line(row) for row in rows)
