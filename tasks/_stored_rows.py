"""Rows that a stage wrote to a file, read back block by block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from schemas.rows import SourceRow
from tasks._lines import read_lines
from tasks._parsing import Block
from tasks._readers import read_file

BLOCK_ROWS = 20_000


def stored_blocks(path: Path) -> Iterator[Block]:
    """Read `rows.jsonl`, as `load_dataset` writes it.

    Args:
        path: The file.

    Yields:
        Its rows, some thousand at a time, each with the place it came from.
    """
    rows = (SourceRow.from_json(line) for line in read_lines(path))
    while block := tuple(islice(rows, BLOCK_ROWS)):
        yield Block(block[0].file, block[0].line, rows=block)


def kept_blocks(path: Path) -> Iterator[Block]:
    """Read `kept.jsonl`, as `check_schema` writes it.

    Args:
        path: The file.

    Yields:
        Its conversations, block by block.
    """
    yield from read_file(path, path.name)
