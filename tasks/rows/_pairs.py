"""Pairs of rows: which are compared, how similar they are, and what joining them gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.rows.shared_text import END_BYTES, END_WORDS

if TYPE_CHECKING:
    from numpy import ndarray

CHANGED_WORDS = 5
"""Ends are alike if at most one word of five is another one."""


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
    """Set the labels of joined rows, and of all joined with them, to the smallest, in place."""
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


def are_ends_alike(left: ndarray, right: ndarray) -> ndarray:
    """Compare the words at both ends of the questions and the answers of pairs of rows.

    Args:
        left: Ends of one row of each pair, as `OwnWords` has them.
        right: Those of the other row.

    Returns:
        Whether at each of the four ends at most one word of five is another one.

    Shape:
        left and right (n_pairs, 64) uint8; the result (n_pairs,).
    """
    import numpy

    some, others = (side.reshape(-1, END_BYTES // END_WORDS, END_WORDS) for side in (left, right))
    is_same = some[..., :, None] == others[..., None, :]
    is_there, is_other_there = some > 0, others > 0
    n_shared = numpy.minimum(
        (is_same.any(axis=-1) & is_there).sum(axis=-1),
        (is_same.any(axis=-2) & is_other_there).sum(axis=-1),
    )
    n_words = numpy.maximum(is_there.sum(axis=-1), is_other_there.sum(axis=-1))
    return ((n_words - n_shared) * CHANGED_WORDS <= n_words).all(axis=-1)
