"""Readers of tables: .csv, .tsv and .parquet, and what Arrow adds to nested rows."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources._compression import DataFile, open_data
from tasks.sources._line_blocks import LONGEST_LINE_BYTES, TOO_LONG, pack_rows
from tasks.sources.parsing import Block

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch
    from pyarrow.parquet import ParquetFile

BATCH_ROWS = 1000
"""Rows of a Parquet file in memory at a time."""
CHUNK_BYTES = 1 << 20
LONGEST_CELL = LONGEST_LINE_BYTES // 4
"""Characters, of four bytes at most, in a line or a cell of a CSV file; Python's own limit of
131,072 is less than a long answer, and a quote left open makes the rest of the file one cell."""
TEXT_FIELDS = ("content", "value")
"""What messages call their text; a null there is an error of the row and no padding."""


def read_csv(file: DataFile, delimiter: str = ",") -> Iterator[Block]:
    """Read a CSV file; bytes that are not UTF-8 become U+FFFD.

    Args:
        file: The file.
        delimiter: Between two cells.

    Yields:
        Its rows, each with the number of its first line.

    Raises:
        DataSourceError: Two columns have the same name.
    """
    csv.field_size_limit(LONGEST_CELL)
    with open_data(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        lines = _CsvLines(text)
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

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_CELL)
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
        elif len(cells) != len(header):
            reason = f"has {len(cells)} fields, the header has {len(header)}"
            yield SourceRow(name, number, unparseable=reason)
        else:
            yield SourceRow(name, number, dict(zip(header, cells, strict=True)))


def _checked_header(header: list[str], name: str, number: int) -> list[str]:
    if len(set(header)) < len(header):
        raise DataSourceError(
            f"two columns of {name} have the same name",
            where=f"{name}:{number}",
            got=", ".join(header),
            fix="give every column its own name",
        )
    return header


def read_parquet(file: DataFile) -> Iterator[Block]:
    """Read a Parquet file.

    Args:
        file: The file.

    Yields:
        Its rows, numbered from 1.

    Raises:
        DataSourceError: It is not a Parquet file, or a damaged one.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with _seekable(file) as stream, parquet.ParquetFile(stream) as table:
            yield from pack_rows(file.name, _parquet_rows(table, file.name))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataSourceError(
            f"{file.name} is not a readable Parquet file: {error}",
            where=file.name,
            fix="write the file again; it may have been cut off while it was copied",
        ) from error


@contextmanager
def _seekable(file: DataFile) -> Iterator[Any]:
    """Open what Arrow may read out of order: the file, or an uncompressed temporary one."""
    with tempfile.TemporaryFile() as unpacked:
        with open_data(file) as stream:
            if file.codec:
                shutil.copyfileobj(stream, unpacked, CHUNK_BYTES)
        unpacked.seek(0)
        yield unpacked if file.codec else file.path


def _parquet_rows(table: ParquetFile, name: str) -> Iterator[SourceRow]:
    number = 0
    for batch in table.iter_batches(batch_size=BATCH_ROWS):
        try:
            values = batch.to_pylist(maps_as_pydicts="lossy")
        except (ValueError, OverflowError):
            values = [_lone_value(batch.slice(place, 1)) for place in range(batch.num_rows)]
        for value in values:
            number += 1
            if isinstance(value, Exception):
                yield SourceRow(name, number, unparseable=f"not readable: {value}")
            else:
                yield SourceRow(name, number, prune_nulls(value))


def _lone_value(batch: RecordBatch) -> Any:
    """Read the row of a batch of one; text that is not UTF-8 is read as bytes."""
    try:
        return batch.to_pylist(maps_as_pydicts="lossy")[0]
    except UnicodeDecodeError:
        return _as_bytes(batch).to_pylist(maps_as_pydicts="lossy")[0]
    except (ValueError, OverflowError) as error:
        return error


def _as_bytes(batch: RecordBatch) -> RecordBatch:
    """Take every text of a batch, of any depth, for bytes."""
    import pyarrow

    def bytes_type(kind: DataType) -> DataType:
        types = pyarrow.types
        if types.is_string(kind):
            return pyarrow.binary()
        if types.is_large_string(kind):
            return pyarrow.large_binary()
        if types.is_struct(kind):
            return pyarrow.struct([(part.name, bytes_type(part.type)) for part in kind])
        if types.is_list(kind):
            return pyarrow.list_(bytes_type(kind.value_type))
        if types.is_large_list(kind):
            return pyarrow.large_list(bytes_type(kind.value_type))
        return kind

    return batch.cast(pyarrow.schema([(part.name, bytes_type(part.type)) for part in batch.schema]))


def prune_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Take out the nulls with which Arrow pads what is nested in a row.

    Arrow gives every struct of a column all keys that any of them has: a tool call gets the
    arguments of every other tool, as nulls, and a template would render them. What was null
    before it went into Arrow cannot be distinguished from padding and goes as well.

    Args:
        row: A row as Arrow gives it.

    Returns:
        The row with its own nulls, those of a message's text and those in lists of values.
    """
    return {
        name: _pruned(value, is_message_list=True) if isinstance(value, (dict, list)) else value
        for name, value in row.items()
    }


def _pruned(value: Any, *, is_message_list: bool = False) -> Any:
    if isinstance(value, list):
        if is_message_list:
            return [_pruned_message(item) for item in value]
        return [_pruned(item) for item in value]
    if isinstance(value, dict):
        return {name: _pruned(item) for name, item in value.items() if item is not None}
    return value


def _pruned_message(message: Any) -> Any:
    """Prune a message; of its texts a null one stays only where there is no other."""
    if not isinstance(message, dict):
        return _pruned(message)
    texts = [name for name in TEXT_FIELDS if name in message]
    is_null = all(message[name] is None for name in texts)
    kept = ("value" if message.get("from") is not None else "content") if is_null else ""
    return {
        name: _pruned(item)
        for name, item in message.items()
        if item is not None or name == kept or (is_null and texts == [name])
    }
