"""Arithmetic of clusters on whole columns: buckets, joined labels, shares of equal minima."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray


def shared_buckets(keys: ndarray, rows: ndarray) -> tuple[ndarray, ndarray]:
    """Sort rows by key and keep those whose key another row has too.

    Key and row share one number: sorting numbers is ten times as fast as sorting by a key.

    Args:
        keys: Key of every row there is.
        rows: The rows to look at.

    Returns:
        Keys and rows, sorted by both.
    """
    import numpy

    packed = keys[rows].astype(numpy.uint64)
    packed <<= numpy.uint64(32)
    packed |= rows
    packed.sort()
    is_same = (packed[1:] ^ packed[:-1]) >> numpy.uint64(32) == 0
    is_shared = numpy.zeros(len(packed), dtype=bool)
    is_shared[1:] |= is_same
    is_shared[:-1] |= is_same
    packed = packed[is_shared]
    return packed >> numpy.uint64(32), packed.astype(numpy.uint32)


def join_labels(labels: ndarray, left: ndarray, right: ndarray) -> None:
    """Give joined rows and all that are joined with them the smallest of their labels.

    Args:
        labels: For each row the first row of its cluster, itself where it is alone; changed here.
        left: One row of each pair.
        right: The other one.
    """
    import numpy

    while len(left):
        some, others = labels[left], labels[right]
        is_apart = some != others
        left, right = left[is_apart], right[is_apart]
        lower = numpy.minimum(some, others)[is_apart]
        numpy.minimum.at(labels, numpy.maximum(some, others)[is_apart], lower)
        settled = labels[labels]
        while (settled != labels).any():
            labels[:] = settled
            settled = labels[labels]


def estimated_similarities(left: ndarray, right: ndarray) -> ndarray:
    """Estimate the Jaccard similarity of pairs from the lowest bytes of their minima.

    Of two different minima 1 in 256 have the same lowest byte, so a share m of equal bytes stands
    for a similarity of (m - 1/256) / (1 - 1/256).

    Args:
        left: Bytes of one row of each pair.
        right: Those of the other row.

    Returns:
        The similarities, at most 1; a little below 0 where nothing is equal.

    Shape:
        left and right (n_pairs, n_bytes) uint8, n_bytes a multiple of 8 up to 248; the result
        (n_pairs,) float64.
    """
    import numpy

    n_bytes = left.shape[1]
    # Eight sums side by side, a byte each: together they stay below 256, so none carries.
    words = (left == right).view(numpy.uint64)
    sums = words @ numpy.ones(n_bytes // 8, dtype=numpy.uint64)
    shares = ((sums * numpy.uint64(0x0101010101010101)) >> 56) / n_bytes
    return (shares - 1 / 256) / (1 - 1 / 256)
