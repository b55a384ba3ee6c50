"""Reader of .json files: one list, one object, objects one after another, or JSON lines.

A list may be larger than memory: its rows are cut out one by one and handed on as lines.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from schemas.errors import DataSourceError
from tasks.sources._compression import CHUNK_BYTES, DataFile, open_data
from tasks.sources._json_hints import TRAILING_COMMA, find_hint
from tasks.sources._json_layout import Layout, find_layout, plain_lines
from tasks.sources._json_wrappers import rows_in
from tasks.sources._line_blocks import LONGEST_LINE_BYTES, TOO_LONG, pack_lines, read_line_blocks
from tasks.sources.parsing import TOO_DEEP, Block

JSON_FIX = "write the file as valid JSON, or as .jsonl with one object a line"
LIST_FIX = "put [ before the first object and ] after the last one, and no comma between the two"
JSON_LIST = "json_list_split"
JSON_OBJECTS = "json_objects_split"
"""Conversions of .jsonl files that are one list, or whose objects take many lines."""
CUT_OFF = "it ends in the middle"
LONGEST_TOKEN = 16
"""Characters of JSON that may be cut in two, such as an escaped surrogate pair; strings apart."""
NUMBER_SIGNS = ".eE+-0123456789"
BLANKS = re.compile(r"[ \t\n\r]*")
# Numbers stay text here: the rows are parsed again, and a number of any length has an end.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def read_json_file(file: DataFile) -> Iterator[Block]:
    """Read a .json file: a list, one object, objects one after another, or JSON lines."""
    return _read(file, is_list_usual=True)


def read_jsonl_file(file: DataFile) -> Iterator[Block]:
    """Read a .jsonl file: JSON lines, or any other of the layouts of a .json file, and note it."""
    return _read(file, is_list_usual=False)


def _read(file: DataFile, *, is_list_usual: bool) -> Iterator[Block]:
    layout = find_layout(file, is_list_usual=is_list_usual)
    if layout is Layout.LINES:
        yield from read_line_blocks(file)
        return
    if layout is not Layout.DOCUMENT:
        yield from (plain_lines(block, layout) for block in read_line_blocks(file))
        return
    with open_data(file) as stream:
        text = _JsonText(file, stream)
        first = text.peek()
        if first not in ("[", "{"):
            raise _single_value(file, text.take())
        values = _listed(text) if first == "[" else _following(text)
        note = "" if is_list_usual else JSON_LIST if first == "[" else JSON_OBJECTS
        yield from pack_lines(
            file.name, enumerate(_rows(values, file, is_list=first == "["), start=1), note
        )


def _single_value(file: DataFile, value: bytes) -> DataSourceError:
    is_json = value[:1] == b'"' and json.loads(value).lstrip()[:1] in ("[", "{")
    return DataSourceError(
        f"{file.name} is not a list of rows",
        where=file.name,
        expected="[{…}, {…}]",
        got="a text that is JSON itself" if is_json else "a single value",
        fix=f"take it out of its quotes: jq -r . {file.path.name} > rows.json"
        if is_json
        else "write the rows as one list, or as .jsonl with one object a line",
    )


def _rows(values: Iterator[bytes], file: DataFile, *, is_list: bool) -> Iterator[bytes]:
    """Pass values on; where the first contains rows, or a list does, the rows in them instead."""
    first = next(values, None)
    if first is None:
        return
    second = next(values, None)
    is_alone = second is None and not is_list
    has_rows = _rows_in(first, file, is_alone=is_alone) is not None
    for value in chain((first,), () if second is None else (second,), values):
        rows = None
        if has_rows or value[:1] == b"[":
            rows = _rows_in(value, file, is_alone=is_alone)
        yield from (value,) if rows is None else rows


def _rows_in(value: bytes, file: DataFile, *, is_alone: bool) -> list[bytes] | None:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return None
    rows = rows_in(file, parsed, is_alone=is_alone)
    return None if rows is None else [json.dumps(row).encode() for row in rows]


def _listed(text: _JsonText) -> Iterator[bytes]:
    """Cut the rows out of a list, and of others that follow it."""
    is_over = False
    while not is_over:
        text.position += 1
        is_end = text.peek() == "]"
        while not is_end:
            yield text.take()
            sign = text.peek()
            if sign not in ("]", ","):
                raise text.delimiter_fault()
            text.position += sign == ","
            is_end = sign == "]"
            if not is_end and text.peek() == "]":
                raise text.fault(f"Expecting value ({TRAILING_COMMA})")
        text.position += 1
        sign = text.peek()
        if sign not in ("", "["):
            raise text.fault("more text after the end of the list")
        is_over = not sign


def _following(text: _JsonText) -> Iterator[bytes]:
    """Cut out objects that follow one another."""
    while text.peek():
        yield text.take()
        if text.peek() == ",":
            raise text.fault("a comma after an object that is in no list", fix=LIST_FIX)


class _JsonText:
    """The text of a JSON file, of which only what is not yet parsed is in memory."""

    def __init__(self, file: DataFile, stream: BinaryIO) -> None:
        self.position = 0
        self._file = file
        self._stream = stream
        self._text = ""
        self._n_lines_gone = 0
        self._is_complete = False
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")

    def peek(self) -> str:
        """Go to the next sign that is not blank; empty at the end."""
        while True:
            found = BLANKS.match(self._text, self.position)
            self.position = found.end() if found else self.position
            if self.position < len(self._text):
                return self._text[self.position]
            if self._is_complete:
                return ""
            self._read_on()

    def take(self) -> bytes:
        """Cut the value out that begins here, as one line."""
        self.peek()
        while True:
            try:
                _, end = DECODER.raw_decode(self._text, self.position)
            except RecursionError as error:
                raise self.fault(TOO_DEEP) from error
            except json.JSONDecodeError as error:
                if self._is_complete or not self._may_be_cut(error):
                    raise self._syntax_fault(error) from error
            else:
                # A number may go on after what looks like its end: 1 and 1. of 1.5.
                if self._text[end : end + 1] not in NUMBER_SIGNS or self._is_complete:
                    break
            self._read_on()
        value = self._text[self.position : end]
        self.position = end
        # A raw line break is no part of a JSON string, so each one here may become a blank.
        return value.replace("\r", " ").replace("\n", " ").encode("utf-8")

    def fault(self, what: str, position: int | None = None, fix: str = JSON_FIX) -> DataSourceError:
        """Make the error for the current position or another one."""
        until = self.position if position is None else position
        line = 1 + self._n_lines_gone + self._text.count("\n", 0, until)
        return DataSourceError(
            f"{self._file.name} is not valid JSON: {what}",
            where=f"{self._file.name}:{line}",
            fix=fix,
        )

    def delimiter_fault(self) -> DataSourceError:
        """Make the error for something else than the comma or the end of a list."""
        is_over = self.position == len(self._text)
        found = CUT_OFF if is_over else "Expecting ',' delimiter" + self._hint(self.position)
        return self.fault(found)

    def _hint(self, position: int) -> str:
        hint = find_hint(self._text, position)
        return f" ({hint})" if hint else ""

    def _syntax_fault(self, error: json.JSONDecodeError) -> DataSourceError:
        is_at_end = self._is_complete and not self._text[error.pos :].strip()
        if is_at_end or error.msg.startswith("Unterminated string"):
            return self.fault(CUT_OFF, error.pos)
        return self.fault(error.msg.removesuffix(" at") + self._hint(error.pos), error.pos)

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Return whether more text can fix the error."""
        is_near_end = len(self._text) - error.pos <= LONGEST_TOKEN
        return is_near_end or error.msg.startswith("Unterminated string")

    def _read_on(self) -> None:
        """Drop what was parsed and read as much as is left, so that the work is linear."""
        waiting = self._text[self.position :]
        if len(waiting) > LONGEST_LINE_BYTES:
            raise self.fault(f"a value {TOO_LONG}")
        self._n_lines_gone += self._text.count("\n", 0, self.position)
        chunk = self._stream.read(max(CHUNK_BYTES, len(waiting)))
        self._is_complete = not chunk
        self._text = waiting + self._decoder.decode(chunk, final=not chunk)
        self.position = 0
