"""Readers of data files, chosen by the ending of the name and by what the file begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from schemas.rows.row import SourceRow
from tasks.sources._archives import data_members
from tasks.sources._compression import DataFile, check_size
from tasks.sources._contents import identify
from tasks.sources._csv_rows import read_csv, read_tsv
from tasks.sources._json_values import read_json_file, read_jsonl_file
from tasks.sources._kinds import ARCHIVE_ENDING, COMPRESSIONS, data_ending, unknown_kind
from tasks.sources._tables import read_arrow, read_parquet
from tasks.sources.parsing import Block

EMPTY_FILE = "the file holds no row"

READERS: dict[str, Callable[[DataFile], Iterator[Block]]] = {
    ".jsonl": read_jsonl_file,
    ".ndjson": read_jsonl_file,
    ".json": read_json_file,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
"""By the ending of the file's name, as in `ENDINGS`."""


def read_file(path: Path, name: str, encoding: str = "") -> Iterator[Block]:
    """Read one data file in constant memory.

    Args:
        path: The file.
        name: What to call it in messages and in the output.
        encoding: Of its text; empty for UTF-8.

    Yields:
        Its rows in order; a row that cannot be read has the reason.

    Raises:
        DataSourceError: The complete file is unreadable, of an unknown kind, or makes rows of many
            times its size.
    """
    n_bytes = 0
    for block in _blocks(path, name, encoding):
        n_bytes += len(block.lines)
        check_size(n_bytes, path, name)
        yield block
        del block  # else it is in memory together with the next


def _blocks(path: Path, name: str, encoding: str) -> Iterator[Block]:
    kind, file = _described(DataFile(path, name, encoding=encoding), path.name)
    file, kind = identify(file, kind)
    if kind != ARCHIVE_ENDING:
        yield from READERS[kind](file)
        return
    members = data_members(file)
    for member in members:
        label = f"{name}/{member}"
        blocks = _read_member(replace(file, member=member, name=label, encoding=encoding))
        yield from blocks if len(members) == 1 else with_empty_row(blocks, label)


def _described(file: DataFile, name: str) -> tuple[str, DataFile]:
    """Take kind and codec of a file from a name."""
    ending = data_ending(name)
    if ending is None:
        raise unknown_kind(file.name)
    kind, packing = ending
    return kind, replace(file, codec=COMPRESSIONS[packing] if packing else "")


def _read_member(file: DataFile) -> Iterator[Block]:
    kind, file = _described(file, file.member)
    file, kind = identify(file, kind)
    yield from READERS[kind](file)


def with_empty_row(blocks: Iterable[Block], name: str) -> Iterator[Block]:
    """Pass the blocks of a file on; one without any, among others, becomes an unreadable row."""
    is_empty = True
    for block in blocks:
        is_empty = False
        yield block
    if is_empty:
        yield Block(name, 1, rows=(SourceRow(name, 1, unparseable=EMPTY_FILE),))
