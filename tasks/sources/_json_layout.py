"""How the rows of a JSON file are laid out: one a line, or as one document over many lines."""

from __future__ import annotations

import codecs
import json
import re
from enum import Enum
from typing import Any

import orjson

from schemas.errors import DataSourceError
from tasks.sources._compression import CHUNK_BYTES, DataFile, open_data

MARKS = codecs.BOM_UTF8 + b" \t\r\n\v\f"
MOST_LINES = 1000
"""Looked at where the first line is no row."""
ROW_FIELDS = frozenset(
    ("messages", "conversations", "prompt", "completion", "instruction", "output")
)
METADATA_FIELDS = frozenset(
    [
        "author",
        "authors",
        "citation",
        "copyright",
        "created",
        "created_at",
        "date",
        "description",
        "homepage",
        "id",
        "info",
        "language",
        "license",
        "name",
        "schema",
        "source",
        "split",
        "task",
        "title",
        "type",
        "updated",
        "url",
        "version",
    ]
)
"""Texts next to a list of rows; with another text, such as a question, an object is a row itself."""
SPEAKER_FIELDS = frozenset(("role", "from"))

WRAPPER_START = re.compile(
    rb'\{(?:\s*"[^"]*"\s*:\s*(?:"[^"]*"|[\d.]+|true|false|null)\s*,)*'
    rb'\s*"([^"]*)"\s*:\s*\[\s*\{\s*"([^"]*)"'
)
"""Single values, then a list of objects: its name, and the first name in its first object."""


class Layout(Enum):
    """How to read a JSON file."""

    LINES = "lines"
    DOCUMENT = "document"
    """A list, or objects one after another, whatever their lines."""


def find_layout(file: DataFile, *, is_list_usual: bool) -> Layout:
    """Find out how a file is laid out, from its first line or, where that is no row, its first MiB.

    Args:
        file: The file.
        is_list_usual: A first line that is a list is the list of all rows, as in a .json file; it
            is one row otherwise, unless it is all there is and has objects.

    Returns:
        Lines where most of the lines are rows, otherwise a document.
    """
    head, is_complete = _head(file)
    lines = head.split(b"\n", MOST_LINES + 1)
    if not is_complete or len(lines) > MOST_LINES:
        lines = lines[:-1] or lines
    lines = [line for line in map(_stripped, lines) if line]
    if not lines:
        return Layout.LINES
    is_single = len(lines) == 1 and is_complete
    try:
        value = _parsed(lines[0])
    except (ValueError, RecursionError):
        return _layout_of_most(lines, is_complete=is_complete, is_list_usual=is_list_usual)
    if isinstance(value, dict):
        return Layout.DOCUMENT if is_single and is_wrapper(value) else Layout.LINES
    if isinstance(value, list) and is_single:
        is_rows = bool(value) and all(isinstance(item, dict) for item in value)
        return Layout.DOCUMENT if is_list_usual or is_rows else Layout.LINES
    is_scalar = not isinstance(value, list)
    return Layout.DOCUMENT if is_list_usual and is_scalar else Layout.LINES


def _layout_of_most(lines: list[bytes], *, is_complete: bool, is_list_usual: bool) -> Layout:
    """Find out the layout where the first line is not JSON: half of the lines are rows, or not."""
    is_single = len(lines) == 1
    if lines[0] == b"[" or (is_single and (is_list_usual or lines[0].startswith(b"["))):
        return Layout.DOCUMENT
    if is_single and not is_complete:
        return Layout.DOCUMENT if _has_more(lines[0]) or _may_wrap(lines[0]) else Layout.LINES
    n_rows = sum(map(_is_row, lines))
    return Layout.LINES if 2 * n_rows >= len(lines) else Layout.DOCUMENT


def _head(file: DataFile) -> tuple[bytes, bool]:
    """Read the first MiB with something in it; also return whether it is all."""
    head = b""
    with open_data(file) as stream:
        while not head.strip(MARKS):
            chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                return head, True
            head = chunk
        return head, not stream.read(1)


def _stripped(line: bytes) -> bytes:
    return line.strip(MARKS)


def _parsed(line: bytes) -> Any:
    """Read a line as Python does, which takes NaN and integers of any length."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line.decode("utf-8", errors="replace"))


def _is_row(line: bytes) -> bool:
    """Return whether a line is an object or list, or looks like one object with an error in it."""
    if line[:1] not in (b"{", b"["):
        return False
    try:
        _parsed(line)
    except RecursionError:
        return True
    except ValueError:
        return line[:1] == b"{" and line[-1:] == b"}" and not _has_more(line)
    return True


def _has_more(line: bytes) -> bool:
    """Return whether a line goes on after a complete value."""
    try:
        json.JSONDecoder().raw_decode(line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _may_wrap(line: bytes) -> bool:
    """Return whether the beginning of an object looks like that of one with the list of all rows."""
    found = WRAPPER_START.match(line)
    if not found:
        return False
    name, first = (part.decode("utf-8", errors="replace") for part in found.groups())
    return name not in ROW_FIELDS and first not in SPEAKER_FIELDS


def is_wrapper(value: dict[str, Any]) -> bool:
    """Return whether the only object of a file contains the rows instead of being one."""
    return bool(_row_lists(value)) or is_columns(value)


def _row_lists(value: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Find the lists of objects in an object that is no row; lists of messages do not count."""
    texts = {name.lower() for name, item in value.items() if isinstance(item, str)}
    if not ROW_FIELDS.isdisjoint(value) or not texts <= METADATA_FIELDS:
        return {}
    return {
        name: items
        for name, items in value.items()
        if isinstance(items, list)
        and items
        and all(isinstance(item, dict) and SPEAKER_FIELDS.isdisjoint(item) for item in items)
    }


def is_columns(value: dict[str, Any]) -> bool:
    """Return whether an object is a table by columns, as pandas writes it unless told otherwise."""
    columns = list(value.values())
    if len(columns) < 2:
        return False
    if all(isinstance(column, dict) for column in columns):
        names = columns[0].keys()
        is_numbered = bool(names) and all(name.isdigit() for name in names)
        return is_numbered and all(column.keys() == names for column in columns)
    if all(isinstance(column, list) for column in columns):
        is_plain = all(isinstance(item, (str, int)) for column in columns for item in column)
        return is_plain and len({len(column) for column in columns}) == 1 and len(columns[0]) > 1
    return False


def unwrap(file: DataFile, line: bytes) -> list[bytes] | None:
    """Take the rows out of the only object of a file.

    Args:
        file: The file.
        line: The object.

    Returns:
        A line for each row; None where the object is a row itself.

    Raises:
        DataSourceError: It has several lists of rows, or is a table by columns.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if is_columns(value):
        raise DataSourceError(
            f"{file.name} is one object with a list for each column, not one object for each row",
            where=file.name,
            expected='{"prompt": …, "completion": …} for each row',
            got=f"columns {', '.join(list(value)[:8])}",
            fix='with pandas, write it with to_json(path, orient="records", lines=True)',
        )
    lists = _row_lists(value)
    if len(lists) > 1:
        name = next(iter(lists))
        raise DataSourceError(
            f"{file.name} is one object with several lists of rows",
            where=file.name,
            expected="one list of rows",
            got=", ".join(f"{name} ({len(items):,})" for name, items in lists.items()),
            fix=f"write each list to a file of its own, e.g. jq -c '.[\"{name}\"][]' "
            f"{file.path.name} > {name}.jsonl",
        )
    if not lists:
        return None
    [items] = lists.values()
    return [json.dumps(item).encode() for item in items]
