"""Tokenised rows as arrays, to look at all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.engine.arrays import Array

READ_ROWS = 10_000


NOT_TRAINED = -100
"""Label of a token that the loss leaves out."""


@dataclass(frozen=True)
class TokenRows:
    """Some rows, one after the other.

    Shape:
        ids, labels: (tokens of all rows); numbers: (rows); starts: (rows + 1).
    """

    numbers: Array
    """What column `row` calls them."""
    ids: Array
    labels: Array
    starts: Array
    """Where each row begins, and where the last one ends."""

    def row_of(self, place: int) -> int:
        """Find the row that a token belongs to, counted from 0."""
        return int(self.starts.searchsorted(place, side="right")) - 1

    def row(self, index: int) -> tuple[Array, Array]:
        """Take the ids and labels of a row, counted from 0."""
        part = slice(self.starts[index], self.starts[index + 1])
        return self.ids[part], self.labels[part]


def count_rows(path: Path) -> int:
    """Count the rows of a token file without reading them."""
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)


def read_token_rows(path: Path) -> Iterator[TokenRows]:
    """Read the rows of a token file (`row`, `input_ids`, `labels`), some thousand at a time."""
    import numpy
    from pyarrow import parquet

    with parquet.ParquetFile(path) as stored:
        for table in stored.iter_batches(READ_ROWS, columns=["row", "input_ids", "labels"]):
            ids, labels = table.column("input_ids"), table.column("labels")
            lengths = ids.value_lengths().to_numpy()
            starts = numpy.concatenate([[0], numpy.cumsum(lengths)])
            yield TokenRows(
                table.column("row").to_numpy(),
                ids.flatten().to_numpy(),
                labels.flatten().to_numpy(),
                starts,
            )
