"""Blocks of lines: cut from a file of JSON lines, or packed from rows of another kind of file."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import orjson

from schemas.rows.row import SourceRow
from tasks.sources._compression import DataFile, open_data
from tasks.sources.parsing import HALF_PAIR, TOO_DEEP, TOO_LARGE, Block

BLOCK_BYTES = 16 << 20
"""Of lines in a block: large against the cost of handing it to another process."""
LONGEST_LINE_BYTES = 64 << 20
"""A longer line is not kept in memory; no context window is as long."""
TOO_LONG = f"longer than {LONGEST_LINE_BYTES >> 20} MiB"
BLANK_BYTES = codecs.BOM_UTF8 + b" \t\r\n"
WIDEST_GAP_LINES = 1000
"""Between two rows in one block; each line between them is an empty line of the block."""
UNREADABLE_ROW_BYTES = 200
"""What a row that cannot be read counts towards a block."""
WRITE_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS


def read_line_blocks(file: DataFile) -> Iterator[Block]:
    """Cut JSON lines into blocks of complete lines; a line that is too long is an unreadable row."""
    number, waiting = 1, b""
    with open_data(file) as stream:
        while chunk := stream.read(BLOCK_BYTES):
            waiting += chunk
            end = waiting.rfind(b"\n") + 1
            if end == 0 and len(waiting) > LONGEST_LINE_BYTES:
                yield _unreadable_line(file.name, number)
                number, waiting = number + 1, _after_line(stream)
            elif end:
                lines, waiting = waiting[:end], waiting[end:]
                yield from _whole_lines(file.name, number, lines)
                number += lines.count(b"\n")
    if waiting:
        yield from _whole_lines(file.name, number, waiting)


def _whole_lines(name: str, number: int, lines: bytes) -> Iterator[Block]:
    """Make a block of lines, of which only the first can be too long."""
    end = lines.find(b"\n") if len(lines) > LONGEST_LINE_BYTES else 0
    if end > LONGEST_LINE_BYTES:
        yield _unreadable_line(name, number)
        number, lines = number + 1, lines[end + 1 :]
    # A mark and nothing else is no row; a longer block is not worth the look at every line.
    if not lines.isspace() and (len(lines) >= 8 or lines.strip(BLANK_BYTES)):
        yield Block(name, number, lines)


def _after_line(stream: BinaryIO) -> bytes:
    """Read to the end of the line and return what was read beyond it."""
    while chunk := stream.read(BLOCK_BYTES):
        end = chunk.find(b"\n")
        if end >= 0:
            return bytes(chunk[end + 1 :])
    return b""


def _unreadable_line(name: str, number: int) -> Block:
    return Block(name, number, rows=(SourceRow(name, number, unparseable=TOO_LONG),))


def pack_rows(name: str, rows: Iterable[SourceRow]) -> Iterator[Block]:
    """Pack rows of Arrow or a CSV file, in order of their numbers, into blocks of JSON lines."""
    return pack_lines(name, ((row.line, _written(row)) for row in rows))


def _written(row: SourceRow) -> bytes | SourceRow:
    """Write a row as a line; dates and the like become text, a number that is none null."""
    if row.unparseable:
        return row
    try:
        return orjson.dumps(row.row, default=_as_text, option=WRITE_OPTIONS)
    except TypeError as error:
        reason = WRITE_FAULTS.get(str(error), str(error))
        return SourceRow(row.file, row.line, unparseable=reason)


WRITE_FAULTS = {
    "Recursion limit reached": TOO_DEEP,
    "Integer exceeds 64-bit range": TOO_LARGE,
    "str is not valid UTF-8: surrogates not allowed": HALF_PAIR,
}
"""Message of `orjson` about a value it cannot write, to the reason of the row."""


def _as_text(value: Any) -> str:
    """Turn what JSON cannot contain into text; Parquet writers often leave text unmarked as bytes."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def pack_lines(
    name: str, lines: Iterable[tuple[int, bytes | SourceRow]], note: str = ""
) -> Iterator[Block]:
    """Pack numbered lines of JSON, and rows that cannot be read, into blocks with a note."""
    pack: list[bytes] = []
    unreadable: list[SourceRow] = []
    first_line, n_bytes = 1, 0
    for number, line in lines:
        gap = number - first_line - len(pack)
        if n_bytes >= BLOCK_BYTES or (gap > WIDEST_GAP_LINES and n_bytes):
            yield Block(name, first_line, b"\n".join(pack), tuple(unreadable) or None, note=note)
            pack, unreadable, n_bytes = [], [], 0
        if n_bytes == 0:
            first_line, gap = number, 0
        if isinstance(line, SourceRow):
            unreadable.append(line)
            n_bytes += UNREADABLE_ROW_BYTES
        else:
            pack.extend([b""] * gap)
            pack.append(line)
            n_bytes += len(line)
    if n_bytes:
        yield Block(name, first_line, b"\n".join(pack), tuple(unreadable) or None, note=note)
