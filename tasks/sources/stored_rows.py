"""Rows that a stage wrote to a file, read back block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from schemas.rows.row import SourceRow
from tasks.engine.jsonl import read_lines
from tasks.sources._readers import read_file
from tasks.sources.parsing import Block

BLOCK_ROWS = 20_000


def stored_parts(path: Path, n_rows: Sequence[int] = ()) -> Iterator[Iterator[Block]]:
    """Read `rows.jsonl`, as `load_dataset` writes it, source by source.

    Args:
        path: The file.
        n_rows: Of each source, in order; without any, all rows are one part.

    Yields:
        Blocks of some thousand rows, each with the place it came from; those of one source are to
        be read to their end before the next.
    """
    rows = (SourceRow.from_json(line) for line in read_lines(path))
    for size in n_rows or (None,):
        yield _blocks(islice(rows, size))


def _blocks(rows: Iterator[SourceRow]) -> Iterator[Block]:
    while block := tuple(islice(rows, BLOCK_ROWS)):
        yield Block(block[0].file, block[0].line, rows=block)


def kept_blocks(path: Path) -> Iterator[Block]:
    """Read `kept.jsonl`, as `check_schema` writes it, block by block."""
    yield from read_file(path, path.name)
