"""Readers of .parquet and .arrow files, and what Arrow adds to nested rows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources._compression import CHUNK_BYTES, DataFile, open_data
from tasks.sources._line_blocks import pack_rows
from tasks.sources.parsing import Block

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch

BATCH_ROWS = 1000
"""Rows of a table in memory at a time."""
FILE_MARK = b"ARROW1"
"""Begins Arrow's file format, which Feather 2 is as well; its stream format has no mark."""
STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
TEXT_FIELDS = ("content", "value")
"""What messages call their text; a null there is an error of the row and no padding."""
JSON_TYPE = "arrow.json"
"""Extension type of columns that the datasets library calls Json."""


def read_parquet(file: DataFile) -> Iterator[Block]:
    """Read a Parquet file; its rows are numbered from 1."""
    from pyarrow import parquet

    with (
        _arrow_errors(file, "Parquet"),
        _seekable(file) as stream,
        parquet.ParquetFile(stream) as table,
    ):
        yield from _pack_batches(file, table.iter_batches(batch_size=BATCH_ROWS))


def read_arrow(file: DataFile) -> Iterator[Block]:
    """Read a file in Arrow's stream or file format, or Feather 2; its rows are numbered from 1."""
    from pyarrow import ipc

    with open_data(file) as stream:
        is_stream = stream.read(len(FILE_MARK)) != FILE_MARK
    with _arrow_errors(file, "Arrow"):
        if is_stream:
            with open_data(file) as stream, ipc.open_stream(stream) as table:
                yield from _pack_batches(file, _slices(_sound(table)))
            _check_stream_end(file)
            return
        with _seekable(file) as stream, ipc.open_file(stream) as table:
            batches = (table.get_batch(place) for place in range(table.num_record_batches))
            yield from _pack_batches(file, _slices(_sound(batches)))


@contextmanager
def _arrow_errors(file: DataFile, kind: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise DataSourceError(
            f"{file.name} is not a readable {kind} file: {error}",
            where=file.name,
            fix="write the file again; it may have been cut off while it was copied",
        ) from error


def _check_stream_end(file: DataFile) -> None:
    """Refuse a plain stream that was cut off between two batches, which Arrow takes for its end."""
    if file.codec or file.member:
        return
    with file.path.open("rb") as stream:
        stream.seek(-len(STREAM_END), os.SEEK_END)
        if stream.read() != STREAM_END:
            raise OSError("it ends without the mark of its end")


@contextmanager
def _seekable(file: DataFile) -> Iterator[Any]:
    """Open what Arrow may read out of order: the file, or an uncompressed temporary one."""
    import pyarrow

    if not file.codec and not file.member:
        with open_data(file):
            pass  # its errors are clearer than Arrow's
        with pyarrow.OSFile(str(file.path)) as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as unpacked:
        with open_data(file) as stream:
            shutil.copyfileobj(stream, unpacked, CHUNK_BYTES)
        unpacked.seek(0)
        yield unpacked


def _sound(batches: Iterable[RecordBatch]) -> Iterator[RecordBatch]:
    """Refuse offsets that lead elsewhere, at which Arrow would end the process; texts are looked at later."""
    import pyarrow

    for batch in batches:
        try:
            batch.validate(full=True)
        except pyarrow.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
        yield batch


def _slices(batches: Iterable[RecordBatch]) -> Iterator[RecordBatch]:
    """Cut batches of any size into some that may be in memory as Python objects."""
    for batch in batches:
        for place in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(place, BATCH_ROWS)


def _pack_batches(file: DataFile, batches: Iterable[RecordBatch]) -> Iterator[Block]:
    return pack_rows(file.name, _batch_rows(batches, file.name))


def _batch_rows(batches: Iterable[RecordBatch], name: str) -> Iterator[SourceRow]:
    number = 0
    for batch in batches:
        has_json = JSON_TYPE in str(batch.schema)
        try:
            values = batch.to_pylist(maps_as_pydicts="lossy")
        except (ValueError, OverflowError):
            values = [_lone_value(batch.slice(place, 1)) for place in range(batch.num_rows)]
        for value in values:
            number += 1
            if isinstance(value, Exception):
                yield SourceRow(name, number, unparseable=f"not readable: {value}")
                continue
            row = prune_nulls(value)
            yield SourceRow(name, number, _with_json(row, batch) if has_json else row)


def _with_json(row: dict[str, Any], batch: RecordBatch) -> dict[str, Any]:
    """Parse the values that are JSON by the type of their column."""
    types = {part.name: part.type for part in batch.schema}
    return {name: _parsed_json(value, types[name]) for name, value in row.items()}


def _parsed_json(value: Any, kind: DataType) -> Any:
    import pyarrow

    types = pyarrow.types
    if getattr(kind, "extension_name", "") == JSON_TYPE and isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    if types.is_struct(kind) and isinstance(value, dict):
        inner = {part.name: part.type for part in kind}
        return {name: _parsed_json(item, inner[name]) for name, item in value.items()}
    if isinstance(value, list) and (types.is_list(kind) or types.is_large_list(kind)):
        return [_parsed_json(item, kind.value_type) for item in value]
    return value


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
