"""Blocks of raw rows, and how they become parsed rows; a worker process needs no more than this.

Every reader turns its file into blocks of JSON lines, a text of a few megabytes that costs next to
nothing to send to another process; the rows are parsed there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.collector import paused_collector
from schemas.nesting import is_deep
from schemas.rows.plain_rows import NOT_PLAIN, Rows, decode_plain
from schemas.rows.recognition import CANONICAL
from schemas.rows.row import SourceRow
from tasks.sources._json_hints import find_hint

MOST_NAMES = 1000
"""Column names remembered for a message."""
MOST_LEVELS = 200
"""Of nesting in a row. `orjson` writes 254 levels and reads 1,024; Python's own stack ends near
1,000, so what is read here can be walked and written again anywhere."""
BYTE_ORDER_MARK = "\ufeff"
MOST_OTHERS = 100
"""Rows of a block that are not plain, before it is asked whether most are."""
BLANKS = BYTE_ORDER_MARK + " \t\r\n\v\f"
"""What may precede the value of a line; a line of nothing else is no row."""
CUT_OFF = "; the file ends in the middle of this line"
TOO_DEEP = "nested too deeply"
HALF_PAIR = "holds half of a surrogate pair"
TOO_LARGE = "holds an integer beyond 64 bits"
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1
_LONG_NUMBER = b"0" * 19
"""Fewer digits always fit into 64 bits."""
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as they were read: lines of one file, or stored rows of any."""

    file: str
    first_line: int
    """Number of the first line of `lines`; of the first row where the source has no lines."""
    lines: bytes = b""
    """One JSON value a line; an empty line is no row, but counts."""
    rows: tuple[SourceRow, ...] | None = None
    """Rows that are no line of JSON, such as those that cannot be read; with `lines`, of the same
    file."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our field name to the source's column."""
    note: str = ""
    """Name of the conversion by which the rows were found; it is counted for each row."""


@dataclass(frozen=True, slots=True)
class ParsedBlock:
    """The rows of a block."""

    rows: Rows
    names: set[str] = field(default_factory=set)
    """Columns of the source, `MOST_NAMES` and a row's more at most; like `n_objects` gathered only
    where columns are mapped."""
    n_objects: int = 0
    n_byte_order_marks: int = 0
    """Taken off the beginning of a line."""
    n_carriage_returns: int = 0
    """Taken off the end of a line, or between JSON's own signs."""


def parse_block(block: Block, *, is_typed: bool = False) -> ParsedBlock:
    """Parse every line that is not blank and rename columns; an unreadable row has the reason.

    With `is_typed`, plain rows become values of `PlainRow`; the others are as without.
    """
    rows, n_marks = _parse_lines(block, is_typed and not block.columns)
    if block.rows:
        # Rows alone may come from several files: their order is that of the source.
        merged = [*rows, *block.rows]
        if rows:
            merged.sort(key=lambda row: row.line)
        rows = Rows.of(merged)
    n_returns = block.lines.count(b"\r") if b"\r" in block.lines else 0
    if not block.columns:
        return ParsedBlock(rows, set(), 0, n_marks, n_returns)
    names: set[str] = set()
    n_objects = 0
    for place, row in enumerate(rows):
        if isinstance(row.row, dict):
            n_objects += 1
            remember_names(names, row.row, block.columns.values())
            mapped = map_columns(row.row, block.columns)
            rows.items[place] = SourceRow(row.file, row.line, mapped)
    return ParsedBlock(rows, names, n_objects, n_marks, n_returns)


def reading_conversions(block: Block, parsed: ParsedBlock) -> dict[str, int]:
    """Count what was converted to read the rows of a block, by the name of the conversion."""
    counts = {"byte_order_mark_ignored": parsed.n_byte_order_marks, block.note: len(parsed.rows)}
    return {name: count for name, count in counts.items() if name and count}


def remember_names(seen: set[str], names: Collection[str], wanted: Iterable[str]) -> None:
    """Note column names; once there are many, only those in `wanted`."""
    if len(seen) < MOST_NAMES:
        seen.update(names)
    else:
        seen.update(name for name in wanted if name in names)


def map_columns(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Rename columns; one whose name a mapped one takes is kept as `original_<name>`.

    Args:
        row: The row.
        columns: Our field name to the row's column.

    Returns:
        A row with our field names first.
    """
    mapped = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    used = set(columns.values())
    for name, value in row.items():
        if name not in used:
            mapped[f"original_{name}" if name in columns else name] = value
    return mapped


def _parse_lines(block: Block, is_typed: bool) -> tuple[Rows, int]:
    """Parse the lines; also count the byte order marks before them."""
    rows = Rows(block.file)
    items, numbers = rows.items, rows.lines
    crowded: set[int] = set()
    n_marks = n_other = 0
    # Local names and one `try` a line: what it adds counts for every row.
    append, note, loads, file = items.append, numbers.append, orjson.loads, block.file
    # Lines are taken one by one: a list of them would be as large again as the block.
    lines = io.BytesIO(block.lines)
    with paused_collector():
        for number, line in enumerate(lines, start=block.first_line):
            if is_typed:
                try:
                    append(decode_plain(line))
                    note(number)
                    continue
                except NOT_PLAIN:
                    n_other += 1
                    is_typed = n_other < MOST_OTHERS or n_other < len(items)
            try:
                append(SourceRow(file, number, loads(line)))
            except orjson.JSONDecodeError:
                row, has_mark = _read_refused(file, number, line)
                n_marks += has_mark
                if row is None:
                    continue
                append(row)
            note(number)
            # Where levels are too many, as many brackets open before the first that closes; one
            # within a text counts as well, so this only says which rows to look at.
            if len(line) > 2 * MOST_LEVELS and (
                line.count(b"}", MOST_LEVELS) + line.count(b"]", MOST_LEVELS) > MOST_LEVELS
            ):
                crowded.add(number)
    long = _with_long_number(block) if n_other or not is_typed else {}
    if crowded or long:
        rows.items = [
            _refuse_extremes(row, crowded, long) if isinstance(row, SourceRow) else row
            for row in items
        ]
    return rows, n_marks


def _read_refused(file: str, number: int, line: bytes) -> tuple[SourceRow | None, bool]:
    """Read a line that `orjson` refused: without marks, and with damaged bytes as U+FFFD."""
    text = line.removesuffix(b"\n").decode("utf-8", errors="replace")
    bare = text.lstrip(BLANKS)
    has_mark = BYTE_ORDER_MARK in text[: len(text) - len(bare)]
    if not bare:
        return None, has_mark
    try:
        return SourceRow(file, number, orjson.loads(bare)), has_mark
    except orjson.JSONDecodeError as error:
        reason = _why_refused(bare) or f"not JSON: {error.msg}"
    if (
        not line.endswith(b"\n")
        and reason.startswith("not JSON")
        and not bare.rstrip().endswith("}")
    ):
        reason += CUT_OFF
    return SourceRow(file, number, unparseable=reason), has_mark


def _why_refused(text: str) -> str:
    """Return the message of Python's parser, which is clearer; empty if it takes the text."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_checked_integer)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return HALF_PAIR
    except json.JSONDecodeError as error:
        hint = find_hint(text, error.pos)
        message = f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        return f"{message} ({hint})" if hint else message
    except RecursionError:
        return TOO_DEEP
    except ValueError as error:
        return str(error)
    return ""


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _checked_integer(text: str) -> int:
    """Read an integer; Arrow and most parsers have 64 bits, and `orjson` rounds beyond them."""
    value = int(text) if len(text) <= 20 else LARGEST_INTEGER + 1
    if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        raise ValueError(TOO_LARGE)
    return value


def _with_long_number(block: Block) -> dict[int, bytes]:
    """Find the lines with 19 digits or more in a row, by number.

    A run of 19 digits has three of every sixth byte, so a look at those settles nearly every
    block for 0.1 us a line.
    """
    if b"000" not in block.lines[::6].translate(_DIGITS):
        return {}
    zeroed = block.lines.translate(_DIGITS)
    if _LONG_NUMBER not in zeroed:
        return {}
    pairs = zip(io.BytesIO(zeroed), io.BytesIO(block.lines), strict=True)
    return {
        number: line
        for number, (zeros, line) in enumerate(pairs, start=block.first_line)
        if _LONG_NUMBER in zeros
    }


def _refuse_extremes(
    row: SourceRow, crowded: Collection[int], numbers: Mapping[int, bytes]
) -> SourceRow:
    """Refuse a row nested too deeply or with an integer that was rounded."""
    if row.unparseable:
        return row
    # Canonical form may have put a tool call a level deeper.
    is_ours = isinstance(row.row, dict) and row.row.keys() == CANONICAL
    most = MOST_LEVELS + 10 if is_ours else MOST_LEVELS
    if row.line in crowded and is_deep(row.row, most):
        return SourceRow(row.file, row.line, unparseable=TOO_DEEP)
    if row.line in numbers:
        text = numbers[row.line].decode("utf-8", errors="replace")
        if _why_refused(text.lstrip(BLANKS)) == TOO_LARGE:
            return SourceRow(row.file, row.line, unparseable=TOO_LARGE)
    return row
