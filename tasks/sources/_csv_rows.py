"""Reader of .csv and .tsv files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources._compression import DataFile, open_data
from tasks.sources._line_blocks import LONGEST_LINE_BYTES, TOO_LONG, pack_rows
from tasks.sources.parsing import Block

LONGEST_CELL = LONGEST_LINE_BYTES // 4
"""Characters, of four bytes at most, in a line or a cell of a CSV file; Python's own limit of
131,072 is less than a long answer, and a quote left open makes the rest of the file one cell."""
DELIMITERS = (",", ";", "\t", "|")
"""Between two cells: spreadsheets write semicolons where the comma is the decimal mark."""
LONGEST_NAME = 200
"""Characters in the name of a column; forms name columns by whole questions."""
FULL_STOPS = (".", "!", "\u3002")
SENTENCE_BLANKS = 3
JSON_CELLS = ("[{", '{"')
HEADER_AGAIN = "repeats the header line, as files that were put together do; take it out"
LIST_COLUMNS = ("messages", "conversations", "tools")
PRINTED = ("[{'", "array([{'", "[array([{'")
AS_PRINTED = (
    "a list as Python prints it, not JSON; read it with ast.literal_eval and write the rows with "
    "json.dumps, or write JSON lines instead of CSV"
)
SEPARATOR_LINE = "sep="
"""Begins the line in which Excel notes the delimiter."""


def read_csv(file: DataFile, delimiter: str = ",") -> Iterator[Block]:
    """Read a CSV file; bytes that are not UTF-8 become U+FFFD.

    Args:
        file: The file.
        delimiter: Between two cells, unless the header has none of it but of another one.

    Yields:
        Its rows, each with the number of its first line.

    Raises:
        DataSourceError: Two columns have the same name, or the first line is a row.
    """
    csv.field_size_limit(LONGEST_CELL)
    with open_data(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        lines = _CsvLines(text)
        delimiter = lines.find_delimiter(delimiter)
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        yield from pack_rows(file.name, _csv_rows(reader, lines, file.name))


def read_tsv(file: DataFile) -> Iterator[Block]:
    """Read a file of cells separated by tabs, otherwise as CSV."""
    return read_csv(file, delimiter="\t")


class _CsvLines:
    """Lines of a text stream, counted; one that is too long is skipped and raises an error."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.n_lines = 0
        self._text = text
        self._first = ""

    def __iter__(self) -> _CsvLines:
        return self

    def find_delimiter(self, usual: str) -> str:
        """Look at the header: one cell by the usual delimiter may be several by another one."""
        while (line := self._text.readline(LONGEST_CELL)) and not line.strip():
            self.n_lines += 1
        if line.rstrip("\r\n") in {SEPARATOR_LINE + sign for sign in DELIMITERS}:
            self.n_lines += 1
            return line[len(SEPARATOR_LINE)]
        self._first = line
        counts = {sign: len(next(csv.reader([line], delimiter=sign), ())) for sign in DELIMITERS}
        most = max(DELIMITERS, key=counts.__getitem__)
        return most if counts[usual] <= 1 < counts[most] else usual

    def __next__(self) -> str:
        line, self._first = self._first or self._text.readline(LONGEST_CELL), ""
        if not line:
            raise StopIteration
        self.n_lines += 1
        if len(line) == LONGEST_CELL and not line.endswith(("\n", "\r")):
            while (rest := self._text.readline(LONGEST_CELL)) and not rest.endswith(("\n", "\r")):
                pass
            raise csv.Error(TOO_LONG)
        return line


def _csv_rows(reader: Any, lines: _CsvLines, name: str) -> Iterator[SourceRow]:
    header: list[str] = []
    lists: list[int] = []
    while True:
        number = lines.n_lines + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield SourceRow(name, number, unparseable=f"not CSV: {error}")
            continue
        if not cells:
            continue
        if not header:
            header = _checked_header(cells, name, number)
            lists = [place for place, column in enumerate(header) if column in LIST_COLUMNS]
        elif len(cells) != len(header):
            reason = f"has {len(cells)} fields, the header has {len(header)}"
            yield SourceRow(name, number, unparseable=reason)
        elif cells == header:
            yield SourceRow(name, number, unparseable=HEADER_AGAIN)
        elif any(cells[place].startswith(PRINTED) for place in lists):
            yield SourceRow(name, number, unparseable=AS_PRINTED)
        else:
            yield SourceRow(name, number, dict(zip(header, cells, strict=True)))


def _checked_header(header: list[str], name: str, number: int) -> list[str]:
    if any(map(_is_text, header)):
        raise DataSourceError(
            f"{name} has no header line: its first line is a row",
            where=f"{name}:{number}",
            expected="a line with the name of each column, e.g. prompt,completion",
            got=f"{len(header)} cells, e.g. {next(filter(_is_text, header))[:60]!r}",
            fix="put a line with the names of the columns before the first one, with the same "
            "sign between two names as between two cells",
        )
    if len(set(header)) < len(header):
        raise DataSourceError(
            f"two columns of {name} have the same name",
            where=f"{name}:{number}",
            got=", ".join(header),
            fix="give every column its own name",
        )
    return header


def _is_text(cell: str) -> bool:
    """Return whether a cell is no name of a column: long, JSON, or a sentence with a full stop."""
    cell = cell.strip()
    is_sentence = cell.endswith(FULL_STOPS) and cell.count(" ") >= SENTENCE_BLANKS
    return len(cell) > LONGEST_NAME or is_sentence or cell.startswith(JSON_CELLS)
