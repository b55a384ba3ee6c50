"""Several sources read as one set: the source of each row, and errors that name it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from schemas.config.run import DataSource
from schemas.errors import SftFlowError
from schemas.rows.recognition import CANONICAL
from schemas.rows.row import SourceRow, is_stored
from tasks.engine.redaction import without_folders, without_secrets
from tasks.sources.parsing import Block
from tasks.sources.source import read_blocks, read_rows, source_fingerprint

Origin = DataSource | Mapping[str, DataSource]
"""One source, or several by name."""


def read_named_rows(
    origin: Origin, conversions: Counter[str] | None = None
) -> Iterator[tuple[str, SourceRow]]:
    """Read every row of one source or, in the order of their names, of several.

    Args:
        origin: Where the rows come from.
        conversions: Gets the number of rows that were read by each conversion.

    Yields:
        The name of the source and a row. The file of a row from a named source is called
        name/file; the name of a source without one is empty.
    """
    if isinstance(origin, DataSource):
        yield from (("", row) for row in read_rows(origin, conversions))
        return
    for name in sorted(origin):
        with errors_of(name):
            for row in read_rows(origin[name], conversions):
                yield name, _named(row, name)


def _named(row: SourceRow, name: str) -> SourceRow:
    row.file = f"{name}/{row.file}"
    # A row that an earlier run wrote, e.g. to train.jsonl, also has the file it came from.
    if isinstance(row.row, dict) and row.row.keys() == CANONICAL and is_stored(row.row):
        row.row = {**row.row, "file": f"{name}/{row.row['file']}"}
    return row


def read_named_blocks(name: str, source: DataSource) -> Iterator[Block]:
    """Read one of several sources in blocks whose file is called name/file; bare without a name."""
    for block in read_blocks(source):
        if not name:
            yield block
            continue
        rows = block.rows and tuple(_named(row, name) for row in block.rows)
        yield replace(block, file=f"{name}/{block.file}", rows=rows)


def title(origin: Origin) -> str:
    """Format the data as one line without passwords: the source, or name=source of each."""
    if isinstance(origin, DataSource):
        return without_secrets(origin.source)
    return ", ".join(f"{name}={without_secrets(origin[name].source)}" for name in sorted(origin))


def public_title(origin: Origin) -> str:
    """Format the data as `title`, but with only the last part of an absolute path."""
    if isinstance(origin, DataSource):
        return without_folders(title(origin))
    return ", ".join(f"{name}={public_title(origin[name])}" for name in sorted(origin))


def source_name(file: str) -> str:
    """Return the source in the file name that `read_named_rows` gave a row."""
    return file.split("/", 1)[0]


def origin_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Fingerprint the content of all sources in a stage's arguments, for its cache key."""
    origin: Origin = arguments["source"]
    if isinstance(origin, DataSource):
        return source_fingerprint(arguments)
    parts = []
    for name in sorted(origin):
        with errors_of(name):
            parts.append(f"{name} {source_fingerprint({'source': origin[name]})}")
    return "; ".join(parts)


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Make errors of a source name its own settings.

    Args:
        name: Of the source.

    Yields:
        Nothing.

    Raises:
        SftFlowError: As it came, with data.sources.<name> in place of data.source.
    """
    try:
        yield
    except SftFlowError as error:
        key = f"data.sources.{name}"
        error.where = error.where.replace("data.source.", f"{key}.") or key
        error.fix = error.fix.replace("data.source.", f"{key}.")
        raise
