"""Readers of data files: .jsonl, .json, .csv and .parquet, row by row."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from schemas.errors import DataSourceError
from schemas.rows import SourceRow

BATCH_ROWS = 1000
"""Rows of a Parquet file held in memory at a time."""
JSON_FIX = "write the file as valid JSON, or as .jsonl with one object a line"
LONGEST_CELL = 2**31 - 1
"""Characters in a cell of a CSV file; Python's own limit of 131,072 is less than a long answer."""


def read_file(path: Path, name: str) -> Iterator[SourceRow]:
    """Read one data file.

    Args:
        path: The file.
        name: What to call it in messages and in the output.

    Yields:
        Its rows in order; a row that cannot be read says why.

    Raises:
        DataSourceError: The whole file is unreadable, or of an unknown kind.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataSourceError(
            f"{name} is not a kind of data file that can be read",
            expected=", ".join(READERS),
            got=path.suffix or "no ending",
            fix="convert the data to one of these kinds, or give the file its right ending",
        )
    yield from reader(path, name)


def _read_jsonl(path: Path, name: str) -> Iterator[SourceRow]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield parse_line(text.rstrip(b"\r\n"), name, number)


def parse_line(line: bytes, name: str, number: int) -> SourceRow:
    """Parse one line of JSON.

    Args:
        line: The line's bytes.
        name: Of the file.
        number: Of the line.

    Returns:
        The row, or the reason why it has none.
    """
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return SourceRow(name, number, unparseable="holds half of a surrogate pair")
    except UnicodeDecodeError as error:
        return SourceRow(name, number, unparseable=f"not UTF-8 at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}"
        return SourceRow(name, number, unparseable=reason)
    except RecursionError:
        return SourceRow(name, number, unparseable="nested too deeply")
    except ValueError as error:
        return SourceRow(name, number, unparseable=str(error).split(":")[0])
    return SourceRow(name, number, value)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read_json(path: Path, name: str) -> Iterator[SourceRow]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:
            yield from _read_jsonl(path, name)
            return
        raise DataSourceError(
            f"{name} is not valid JSON: {error.msg}",
            where=f"{name}:{error.lineno}",
            fix=JSON_FIX,
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataSourceError(
            f"{name} is not valid JSON: {error}", where=name, fix=JSON_FIX
        ) from error
    if not isinstance(value, list):
        raise DataSourceError(
            f"{name} does not hold a list of rows",
            expected="[{…}, {…}]",
            got="an object" if isinstance(value, dict) else "a single value",
            fix="write the rows as one list, or as .jsonl with one object a line",
        )
    for number, row in enumerate(value, start=1):
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            yield SourceRow(name, number, unparseable="holds half of a surrogate pair")
        else:
            yield SourceRow(name, number, row)


def _read_csv(path: Path, name: str) -> Iterator[SourceRow]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise DataSourceError(
                    f"two columns of {name} have the same name",
                    where=f"{name}:1",
                    got=", ".join(header),
                    fix="give every column its own name",
                )
            yield from _csv_rows(reader, header, name)
        except UnicodeDecodeError as error:
            raise DataSourceError(
                f"{name} is not UTF-8",
                where=f"{name}, after line {reader.line_num}",
                fix="save the file as UTF-8",
            ) from error


def _csv_rows(reader: Any, header: list[str], name: str) -> Iterator[SourceRow]:
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield SourceRow(name, number, unparseable=str(error))
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            reason = f"has {len(cells)} fields, the header has {len(header)}"
            yield SourceRow(name, number, unparseable=reason)
        else:
            yield SourceRow(name, number, dict(zip(header, cells, strict=True)))


def _read_parquet(path: Path, name: str) -> Iterator[SourceRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield SourceRow(name, number, plain_value(row))
    except pyarrow.ArrowException as error:
        raise DataSourceError(
            f"{name} is not a readable Parquet file: {error}",
            where=name,
            fix="write the file again; it may have been cut off while it was copied",
        ) from error


def plain_value(value: Any) -> Any:
    """Turn what Parquet and Arrow hold into what JSON can: dates and the like become text.

    Args:
        value: A value of any depth.

    Returns:
        The same with nothing but JSON's own kinds; a number that is none becomes null.
    """
    if isinstance(value, dict):
        return {str(name): plain_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


READERS: dict[str, Callable[[Path, str], Iterator[SourceRow]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
"""By the ending of the file's name."""
