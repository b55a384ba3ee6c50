"""How the rows of a JSON file are laid out: one a line, or as one document over many lines."""

from __future__ import annotations

import codecs
import json
from dataclasses import replace
from enum import Enum
from typing import Any

import orjson

from tasks.sources._compression import CHUNK_BYTES, DataFile, open_data
from tasks.sources._json_wrappers import rows_in
from tasks.sources._line_blocks import LONGEST_LINE_BYTES
from tasks.sources._row_shapes import is_list_of_rows
from tasks.sources.parsing import Block

MARKS = codecs.BOM_UTF8 + b" \t\r\n\v\f"
JSON_TEXTS = "json_texts_parsed"
JSON_EVENTS = "json_events_split"
"""Conversions of files whose lines are not JSON objects but have them."""
MOST_LINES = 1000
"""Looked at where the first line is no row."""
EVENT_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""Begin the lines of an event stream."""


class Layout(Enum):
    """How to read a JSON file."""

    LINES = "lines"
    DOCUMENT = "document"
    """A list, or objects one after another, whatever their lines."""
    TEXTS = "texts"
    """In each line a text that is JSON itself."""
    EVENTS = "events"
    """An event stream: its rows follow `data:`."""


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
        has_rows = rows_in(file, value, is_alone=is_single) is not None
        return Layout.DOCUMENT if has_rows else Layout.LINES
    if isinstance(value, list) and is_single:
        is_rows = bool(value) and all(
            isinstance(item, dict) or is_list_of_rows(item) for item in value
        )
        return Layout.DOCUMENT if is_list_usual or is_rows else Layout.LINES
    if isinstance(value, list):
        return Layout.DOCUMENT if is_list_of_rows(value) else Layout.LINES
    if isinstance(value, str) and not is_single and _is_row(value.strip().encode()):
        return Layout.TEXTS
    return Layout.DOCUMENT if is_list_usual else Layout.LINES


def _layout_of_most(lines: list[bytes], *, is_complete: bool, is_list_usual: bool) -> Layout:
    """Find out the layout where the first line is not JSON: half of the lines are rows, or not."""
    is_single = len(lines) == 1
    if lines[0] == b"[" or (is_single and (is_list_usual or lines[0].startswith(b"["))):
        return Layout.DOCUMENT
    if is_single and not is_complete:
        return Layout.DOCUMENT if _has_more(lines[0]) else Layout.LINES
    if all(line.startswith(EVENT_FIELDS) for line in lines) and any(map(_event_data, lines)):
        return Layout.EVENTS
    n_rows = sum(map(_is_row, lines))
    return Layout.LINES if 2 * n_rows >= len(lines) else Layout.DOCUMENT


def _head(file: DataFile) -> tuple[bytes, bool]:
    """Read the first MiB with something in it, or a whole first line that is an object.

    Also return whether it is all.
    """
    head = b""
    with open_data(file) as stream:
        while not head.strip(MARKS):
            chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                return head, True
            head = chunk
        parts = [head]
        if head.lstrip(MARKS)[:1] == b"{" and b"\n" not in head.lstrip(MARKS):
            n_bytes = 0
            while n_bytes < LONGEST_LINE_BYTES and (chunk := stream.read(CHUNK_BYTES)):
                parts.append(chunk)
                n_bytes += len(chunk)
                if b"\n" in chunk:
                    break
        return b"".join(parts), not stream.read(1)


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


def _event_data(line: bytes) -> bool:
    return line.startswith(b"data:") and _is_row(line.removeprefix(b"data:").strip())


def plain_lines(block: Block, layout: Layout) -> Block:
    """Make lines with one row each of texts that are JSON, or of an event stream.

    Args:
        block: Lines of a file.
        layout: Of the file.

    Returns:
        The block with as many lines.
    """
    plain = _of_text if layout is Layout.TEXTS else _of_event
    lines = b"\n".join(map(plain, block.lines.split(b"\n")))
    return replace(block, lines=lines, note=JSON_TEXTS if layout is Layout.TEXTS else JSON_EVENTS)


def _of_text(line: bytes) -> bytes:
    """Take the text out of its quotes; what is no text that is JSON stays as it is."""
    try:
        text = orjson.loads(line.strip(MARKS))
        return orjson.dumps(orjson.loads(text)) if isinstance(text, str) else line
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return line


def _of_event(line: bytes) -> bytes:
    """Take the data out of a line of an event stream; its other fields are no rows."""
    line = line.strip(MARKS)
    if line.startswith(b"data:"):
        data = line.removeprefix(b"data:").strip()
        return b"" if data == b"[DONE]" else data
    return b"" if line.startswith(EVENT_FIELDS) else line
