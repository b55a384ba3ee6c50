"""A number for each row's content, so that two sets can be compared without keeping their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.rows.row import SourceRow
from tasks.engine.jsonl import json_line

if TYPE_CHECKING:
    from tasks.engine.arrays import Hashes

ROW_DIGESTS = "row_digests.npy"
"""uint64, shape (n_rows,), sorted, equal rows as often as they occur."""


def row_digest(row: SourceRow) -> int:
    """Hash the content of a row, whatever its file and line.

    Args:
        row: The row as the source has it.

    Returns:
        XXH3 of its JSON, 64 bits. Among a million rows two different ones share it once in
        40 million sets.
    """
    import xxhash

    return xxhash.xxh3_64_intdigest(json_line(row.unparseable or row.row).encode())


def count_changes(before: Hashes, now: Hashes) -> tuple[int, int]:
    """Count the rows that were added and removed.

    Args:
        before: Digests of the earlier set, shape (n_rows,).
        now: Digests of the present set, shape (n_rows,).

    Returns:
        Rows that are new, and rows that are gone; a changed row counts once in each.
    """
    import numpy

    digests = numpy.concatenate([before, now])
    _, places = numpy.unique(digests, return_inverse=True)
    n_kinds = int(places.max(initial=-1)) + 1
    counts_before = numpy.bincount(places[: len(before)], minlength=n_kinds)
    counts_now = numpy.bincount(places[len(before) :], minlength=n_kinds)
    difference = counts_now - counts_before
    return int(difference[difference > 0].sum()), int(-difference[difference < 0].sum())
