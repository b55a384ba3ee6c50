"""Rows in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Row = TypeVar("Row")


def batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Cut a sequence into pieces.

    Args:
        rows: The sequence.
        size: Longest piece.

    Yields:
        Consecutive pieces.
    """
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
