"""JSON Lines between the stages: one object a line, UTF-8, equal input gives equal bytes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from schemas.base import Record

LOGGER = logging.getLogger(__name__)
Kind = TypeVar("Kind", bound=Record)


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


def append_record(path: Path, record: Record) -> None:
    """Add one line to a journal, in a folder made for it, and wait until it is on the disk.

    It is one write to the end of the file, so that lines of several processes do not mix. What a
    killed process left of a line is ended first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, f"{chr(10) * is_torn}{record.model_dump_json()}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_records(path: Path, kind: type[Kind]) -> list[Kind]:
    """Read a journal, oldest line first; empty without a file.

    A line that cannot be read, such as one that was cut off by a full disk, is skipped and logged.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    records: list[Kind] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError:
            LOGGER.warning("%s, line %d cannot be read and is skipped", path, number)
    return records


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows, one JSON object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json_line(row) for row in rows)
