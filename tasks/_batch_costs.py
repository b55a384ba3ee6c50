"""What batches of rows hold beside tokens: padding, or space that packing leaves empty."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy

    Lengths: TypeAlias = numpy.ndarray[Any, numpy.dtype[Any]]

PACKED_ROWS = 1000
"""Rows that TRL packs together: the default batch of `datasets.map`."""
GROUP_BATCHES = 50
"""Batches that transformers shuffles together and sorts by length (group_by_length)."""


def unused_fraction(used: int, space: int) -> float:
    """Tell how much of a space is empty.

    Args:
        used: Tokens in it.
        space: Tokens that it could hold.

    Returns:
        1 - used / space; 0 where there is no space.
    """
    return 1 - used / space if space else 0.0


def padding_fractions(lengths: Lengths, batch_size: int, seed: int) -> tuple[float, float]:
    """Tell how much of the batches would be padding, were rows not packed.

    Args:
        lengths: Lengths of rows in tokens.
        batch_size: Rows per batch.
        seed: Of the order of rows.

    Returns:
        1 - tokens / (rows x longest row, summed over batches): for shuffled rows, and for rows
        grouped by length.

    Shape:
        lengths: (rows,).

    Source: transformers 5.17, trainer_pt_utils.get_length_grouped_indices.
    """
    import numpy

    order = numpy.random.default_rng(seed).permutation(len(lengths))
    shuffled = lengths[order].astype(numpy.int64)
    n_batches = min(len(lengths) // (batch_size * 4), GROUP_BATCHES) or 1
    group = numpy.arange(len(lengths)) // (n_batches * batch_size)
    grouped = shuffled[numpy.lexsort((-shuffled, group))]
    n_tokens = int(shuffled.sum())
    return (
        unused_fraction(n_tokens, _padded_tokens(shuffled, batch_size)),
        unused_fraction(n_tokens, _padded_tokens(grouped, batch_size)),
    )


def _padded_tokens(lengths: Lengths, batch_size: int) -> int:
    import numpy

    if not len(lengths):
        return 0
    starts = numpy.arange(0, len(lengths), batch_size)
    sizes = numpy.diff([*starts, len(lengths)])
    return int((numpy.maximum.reduceat(lengths, starts) * sizes).sum())


def count_packed(lengths: Lengths, limit: int) -> int:
    """Count the sequences that packing makes of the rows.

    Args:
        lengths: Lengths of rows in tokens, none above the limit.
        limit: Length of a packed sequence.

    Returns:
        Sequences, by best fit decreasing over each thousand rows.

    Shape:
        lengths: (rows,).

    Source: TRL 1.16, data_utils.pack_dataset(strategy="bfd").
    """
    return sum(
        _count_bins(lengths[start : start + PACKED_ROWS], limit)
        for start in range(0, len(lengths), PACKED_ROWS)
    )


def _count_bins(lengths: Lengths, limit: int) -> int:
    """Pack rows of one length at a time, into the bins with the least space that is enough."""
    import numpy

    values, counts = numpy.unique(lengths[lengths > 0], return_counts=True)
    bins: dict[int, int] = {}  # space left to number of bins
    n_bins = 0
    for length, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        for space in sorted(space for space in bins if space >= length):
            if count:
                count -= _fill(bins, space, length, count)
        if count:
            # What is left needs new bins, each filled with as many rows as go in.
            n_new = math.ceil(count / (limit // length))
            bins[limit] = bins.get(limit, 0) + n_new
            n_bins += n_new
            _fill(bins, limit, length, count)
    return n_bins


def _fill(bins: dict[int, int], space: int, length: int, count: int) -> int:
    """Put up to so many rows of one length into the bins with this space left; return how many."""
    n_each = space // length
    n_full = min(bins[space], count // n_each)
    n_rest = 0 if n_full == bins[space] else count - n_full * n_each
    for n_used, n_rows in ((n_full, n_each), (int(n_rest > 0), n_rest)):
        if n_used:
            bins[space] -= n_used
            left = space - n_rows * length
            bins[left] = bins.get(left, 0) + n_used
    if not bins[space]:
        del bins[space]
    return n_full * n_each + n_rest
