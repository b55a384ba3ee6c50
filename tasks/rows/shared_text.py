"""Leave out what very many rows of a block share, so that rows are compared by what differs.

Rows of one task share its system prompt and its instructions, often most of their words. Left out are whole
messages that many rows repeat, and the words that many different messages begin or end with. What only a few
rows share, such as near copies of one row, stays. The result does not depend on the order of the rows, but on
which rows are in the block: with at least `MOST_SHARING` of them a template is always seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.rows._word_hashes import BASE, Tokens, hash_tokens, run_at

if TYPE_CHECKING:
    from numpy import ndarray
    from polars import Series

    from tasks.engine.arrays import Flags, Numbers

LEAST_SHARING, MOST_SHARING = 10, 50
"""So many different messages, a quarter of all between these bounds, make a common beginning a template."""
LEAST_OPENINGS = 5
"""Rows with the same system or developer message, which leave it out."""
LEAST_WORDS = 16
"""A common beginning or end of fewer words, and a repeated message of fewer, stays."""
LARGEST_STEP = 1 << 11
"""The longest beginning that is looked for has twice as many words."""


def own_words(said: Series, starts: Numbers, ends: Numbers, is_opening: Flags) -> Tokens:
    """Hash the words of rows without those that very many rows share.

    Args:
        said: One text a message, normalised.
        starts: Of each row, its first message.
        ends: Of each row, the message behind its last one; the next row begins there.
        is_opening: Whether a message is a system or developer message.

    Returns:
        The words, row after row. A row that would lose all of its words keeps them.
    """
    import numpy

    tokens = hash_tokens(said)
    firsts, lasts = tokens.offsets[:-1].copy(), tokens.offsets[1:].copy()
    _, distinct, kind, n_same = numpy.unique(
        said.hash().to_numpy(), return_index=True, return_inverse=True, return_counts=True
    )
    least = max(LEAST_SHARING, min(MOST_SHARING, len(starts) // 4))
    is_long = lasts - firsts >= LEAST_WORDS
    n_same = n_same[kind]
    is_repeated = ((n_same >= least) & is_long) | ((n_same >= LEAST_OPENINGS) & is_opening)
    lasts[is_repeated] = firsts[is_repeated]
    looked_at = distinct[(lasts - firsts)[distinct] > LEAST_WORDS]
    for is_from_end in (False, True):
        n_shared = _shared_words(
            tokens.hashes, firsts[looked_at], lasts[looked_at], least, is_from_end
        )
        by_kind = numpy.zeros(len(distinct), dtype=numpy.int64)
        by_kind[kind[looked_at]] = n_shared
        if is_from_end:
            lasts -= by_kind[kind]
        else:
            firsts += by_kind[kind]
    is_whole = (firsts == tokens.offsets[:-1]) & (lasts == tokens.offsets[1:])
    if is_whole.all():
        return Tokens(tokens.hashes, tokens.offsets[numpy.append(starts, len(said))])
    return _kept_words(tokens, (firsts, lasts), (starts, ends))


def _shared_words(
    hashes: ndarray, firsts: Numbers, lasts: Numbers, least: int, is_from_end: bool
) -> Numbers:
    """Count the words at one end of each message that enough other messages have too, at least 16 or none."""
    import numpy

    n_shared = numpy.zeros(len(firsts), dtype=numpy.int64)
    edges = lasts - LEAST_WORDS if is_from_end else firsts
    places = numpy.flatnonzero(lasts - firsts >= LEAST_WORDS)
    places = places[_are_frequent(run_at(hashes, edges[places], LEAST_WORDS), least)]
    if not len(places):
        return n_shared
    sums = _Sums(hashes)
    step = LARGEST_STEP
    while step:
        # Messages that share so many words have taken the same steps, so their lengths agree.
        lengths = n_shared[places] + step
        is_long = lengths <= (lasts - firsts)[places]
        tried, lengths = places[is_long], lengths[is_long]
        begins = lasts[tried] - lengths if is_from_end else firsts[tried]
        found = _are_frequent(
            sums.between(begins, begins + lengths) + lengths.view("uint64"), least
        )
        n_shared[tried[found]] = lengths[found]
        step //= 2
    return n_shared


class _Sums:
    """Hashes of runs of words of any length, from sums over all words."""

    def __init__(self, hashes: ndarray) -> None:
        import numpy

        powers = numpy.full(len(hashes) + 1, BASE, dtype=numpy.uint64)
        powers[0] = 1
        self.powers = numpy.cumprod(powers)
        self.sums = numpy.zeros(len(hashes) + 1, dtype=numpy.uint64)
        numpy.cumsum(hashes * self.powers[:-1], out=self.sums[1:])

    def between(self, begins: Numbers, ends: Numbers) -> ndarray:
        """Hash the words from each begin to before each end."""
        run = self.sums[ends] - self.sums[begins]
        return run * self.powers[len(self.powers) - 1 - begins]


def _are_frequent(keys: ndarray, least: int) -> Flags:
    import numpy

    _, kind, counts = numpy.unique(keys, return_inverse=True, return_counts=True)
    return counts[kind] >= least


def _kept_words(
    tokens: Tokens, kept: tuple[Numbers, Numbers], rows: tuple[Numbers, Numbers]
) -> Tokens:
    """Select the kept words of each message; a row without any keeps all."""
    import numpy

    firsts, lasts = kept
    starts, ends = rows
    n_kept = numpy.add.reduceat(lasts - firsts, starts)
    for row in numpy.flatnonzero(n_kept == 0):
        firsts[starts[row] : ends[row]] = tokens.offsets[:-1][starts[row] : ends[row]]
        lasts[starts[row] : ends[row]] = tokens.offsets[1:][starts[row] : ends[row]]
    changes = numpy.zeros(len(tokens.hashes) + 1, dtype=numpy.int32)
    numpy.add.at(changes, firsts, 1)
    numpy.add.at(changes, lasts, -1)
    is_kept = numpy.cumsum(changes[:-1]) > 0
    offsets = numpy.zeros(len(starts) + 1, dtype=numpy.int64)
    numpy.cumsum(numpy.add.reduceat(lasts - firsts, starts), out=offsets[1:])
    return Tokens(tokens.hashes[is_kept], offsets)
