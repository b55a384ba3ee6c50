"""Leave out what very many rows of a block share, and keep the ends of questions and answers.

Rows of one task share its system prompt and its instructions, often most of their words. Left out are whole
messages that many rows repeat, and the words that many different messages begin or end with. What only a few
rows share, such as near copies of one row or one passage of several questions, stays; the ends of the last
question and of the answer tell these two apart. The result does not depend on the order of the rows, but on
which rows are in the block: with at least `MOST_SHARING` of them a template is always seen.
"""

from __future__ import annotations

from dataclasses import dataclass
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
END_WORDS = 16
"""Words kept at each end of a question and of an answer, a byte each."""
END_BYTES = 4 * END_WORDS
LEAST_PLAIN_WORDS = 5
"""In a text of fewer words punctuation does not count: it would make another word of one in four."""


@dataclass(frozen=True, slots=True)
class OwnWords:
    """What rows do not share with very many others."""

    words: Tokens
    ends: ndarray
    """Shape: (rows, 64) uint8: of the last question the first 16 words and the last, then of the answer;
    0 where there is none."""


def own_words(
    said: Series, bounds: tuple[Numbers, Numbers, Numbers], is_opening: Flags
) -> OwnWords:
    """Hash the words of rows without those that very many rows share.

    Args:
        said: One text a message, normalised.
        bounds: Of each row its first message, its answer, and the message behind its last one, where the
            next row begins; where there is no answer, the latter twice.
        is_opening: Whether a message is a system or developer message.

    Returns:
        The words, row after row, and the ends. A row that would lose all of its words keeps them.
    """
    import numpy

    starts, _, ends = bounds
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
    kept_ends = _ends(tokens, said, (firsts, lasts), bounds)
    is_whole = (firsts == tokens.offsets[:-1]) & (lasts == tokens.offsets[1:])
    if is_whole.all():
        words = Tokens(tokens.hashes, tokens.offsets[numpy.append(starts, len(said))])
        return OwnWords(words, kept_ends)
    return OwnWords(_kept_words(tokens, (firsts, lasts), (starts, ends)), kept_ends)


def _ends(
    tokens: Tokens,
    said: Series,
    kept: tuple[Numbers, Numbers],
    bounds: tuple[Numbers, Numbers, Numbers],
) -> ndarray:
    """Shorten the words at both ends of each row's last question and answer to a byte each."""
    import numpy

    starts, answers, ends = bounds
    found = numpy.zeros((len(starts), 2, 2 * END_WORDS), dtype=numpy.uint8)
    last_questions, their_answers = (answers - 1, answers > starts), (answers, answers < ends)
    shortened = _byte_words(tokens.hashes)
    for part, (places, has_one) in enumerate((last_questions, their_answers)):
        rows = numpy.flatnonzero(has_one)
        messages = places[rows]
        firsts, lasts = kept[0][messages], kept[1][messages]
        found[rows, part] = _end_words(shortened, firsts, lasts)
        is_short = (numpy.diff(tokens.offsets)[messages] < LEAST_PLAIN_WORDS) & (lasts > firsts)
        if is_short.any():
            short = hash_tokens(said.gather(messages[is_short]), is_punctuation_space=True)
            found[rows[is_short], part] = _end_words(
                _byte_words(short.hashes), short.offsets[:-1], short.offsets[1:]
            )
    return found.reshape(len(starts), END_BYTES)


def _byte_words(hashes: ndarray) -> ndarray:
    """Shorten words to a byte above 0, with room around them for the ends of short texts."""
    import numpy

    shortened = numpy.zeros(len(hashes) + 2 * END_WORDS, dtype=numpy.uint8)
    numpy.maximum(hashes.astype(numpy.uint8), 1, out=shortened[END_WORDS : END_WORDS + len(hashes)])
    return shortened


def _end_words(shortened: ndarray, firsts: Numbers, lasts: Numbers) -> ndarray:
    """Take the first 16 words and the last 16 from each first to before each last; 0 where there are fewer."""
    import numpy

    windows = numpy.lib.stride_tricks.sliding_window_view(shortened, END_WORDS)
    found = numpy.concatenate([windows[firsts + END_WORDS], windows[lasts]], axis=1)
    n_words = lasts - firsts
    is_few = numpy.flatnonzero(n_words < END_WORDS)
    steps = numpy.arange(END_WORDS)
    few = n_words[is_few, None]
    is_there = numpy.concatenate([steps < few, steps >= END_WORDS - few], axis=1)
    found[is_few] *= is_there
    return found


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
