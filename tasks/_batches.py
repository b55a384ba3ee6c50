"""Rows in batches and in JSONL files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def batches(rows: Sequence[dict[str, Any]], size: int) -> Iterator[Sequence[dict[str, Any]]]:
    """Cut a sequence into pieces.

    Args:
        rows: The sequence.
        size: Longest piece.

    Yields:
        Consecutive pieces.
    """
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a small JSONL file.

    Args:
        path: The file.

    Returns:
        Its rows.
    """
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows, one JSON object a line.

    Args:
        path: The file.
        rows: Its rows.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
