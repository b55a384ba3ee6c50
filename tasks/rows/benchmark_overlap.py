"""Benchmark contamination: rows that share a long run of words with a benchmark.

Source: Brown et al., Language Models are Few-Shot Learners (2020), appendix C: runs of 13 words,
lower-cased and without punctuation; runs that too many texts share are boilerplate and not counted.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tasks.rows._word_hashes import Tokens, hash_runs, hash_tokens

if TYPE_CHECKING:
    from numpy import ndarray
    from polars import Series

RUN_WORDS = 13
LEAST_WORDS = 8
"""A shorter benchmark text, such as an answer option, says too little to be looked for."""
CHARACTERS_A_WORD = 3
"""Where a script has no spaces a run is counted in characters, so many to a word."""
MOST_TEXTS = 10
"""A run that more texts of the benchmark share is its own template, not a question."""
SLOTS_A_RUN = 16
NOT_IN_A_WORD = r"[^\p{L}\p{M}\p{N}]+"
SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"


@dataclass(frozen=True)
class RunTable:
    """Hashes of the runs of one length.

    Shape:
        hashes (n_runs,) uint64, ascending.
    """

    hashes: ndarray

    @functools.cached_property
    def _slots(self) -> tuple[ndarray, int]:
        """Mark the leading bits of the hashes: rules out 15 of 16 others by one look."""
        import numpy

        n_bits = max(16, (len(self.hashes) * SLOTS_A_RUN - 1).bit_length())
        slots = numpy.zeros(1 << n_bits, dtype=bool)
        slots[self.hashes >> numpy.uint64(64 - n_bits)] = True
        return slots, 64 - n_bits

    def places(self, hashes: ndarray) -> ndarray:
        """Find the hashes that are in the table, and return their places, ascending."""
        import numpy

        slots, shift = self._slots
        likely = numpy.flatnonzero(slots.take(hashes >> numpy.uint64(shift)))
        wanted = hashes[likely]
        found = numpy.searchsorted(self.hashes, wanted)
        found[found == len(self.hashes)] = 0
        return likely[self.hashes[found] == wanted]


@dataclass(frozen=True)
class NgramIndex:
    """Runs of words of a benchmark, by their length in words; can be pickled to workers."""

    tables: Mapping[int, RunTable]
    n_texts: int
    """Different texts that are looked for."""
    n_short_texts: int
    """Different texts too short to be looked for."""

    @classmethod
    def from_texts(cls, texts: Iterable[str], n: int = RUN_WORDS) -> Self:
        """Collect the runs of a benchmark's texts.

        A text of n words or more is found by any run of n words; one of 8 to n - 1 words only as
        a whole text; a shorter one not at all. Texts in scripts without spaces count three characters
        to a word. A run that more than ten different texts share is left out.

        Args:
            texts: Questions and answers, each on its own.
            n: Words a run.

        Returns:
            The index.
        """
        import numpy
        import polars

        plain = polars.Series(list(texts), dtype=polars.String).str.to_lowercase()
        plain = plain.str.replace_all(NOT_IN_A_WORD, " ").str.strip_chars()
        plain = plain.unique(maintain_order=True)
        n_tokens = numpy.diff(hash_tokens(plain).offsets)
        n_spaceless = plain.str.count_matches(SPACELESS).to_numpy()
        factor = numpy.where(n_spaceless * 2 > n_tokens, CHARACTERS_A_WORD, 1)
        length = numpy.minimum(n_tokens, n * factor)
        length[n_tokens < min(LEAST_WORDS, n) * factor] = 0
        tables = {
            size: RunTable(_common_to_few(plain.filter(length == size), size))
            for size in numpy.unique(length).tolist()
            if size
        }
        tables = {size: table for size, table in tables.items() if len(table.hashes)}
        is_short = (length == 0) & (n_tokens > 0)
        return cls(tables, int((length > 0).sum()), int(is_short.sum()))

    def overlaps(self, texts: Series) -> ndarray:
        """Mark the texts that share a run with the benchmark.

        Args:
            texts: One text a row, as it is.

        Returns:
            True where a run is shared.

        Shape:
            (n_rows,) bool.
        """
        import numpy

        is_shared = numpy.zeros(len(texts), dtype=bool)
        if not self.tables:
            return is_shared
        tokens = _word_tokens(texts)
        for length, table in self.tables.items():
            runs = hash_runs(tokens, length)
            places = table.places(runs.hashes)
            is_shared[numpy.searchsorted(runs.offsets, places, side="right") - 1] = True
        return is_shared


def benchmark_texts(row: Any) -> list[str]:
    """List every string value in a benchmark's row, at any depth, in its order.

    Each stays on its own: a run across a question and its options would be found nowhere else.
    """
    texts = []
    waiting = [row]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, Mapping):
            waiting.extend(reversed(list(value.values())))
        elif isinstance(value, (list, tuple)):
            waiting.extend(reversed(value))
    return texts


def _common_to_few(texts: Series, length: int) -> ndarray:
    """Hash the runs of texts, without those that too many of the texts share."""
    import numpy

    runs = hash_runs(hash_tokens(texts), length)
    rows = numpy.repeat(numpy.arange(len(texts)), numpy.diff(runs.offsets))
    order = numpy.lexsort((rows, runs.hashes))
    hashes, rows = runs.hashes[order], rows[order]
    is_new = numpy.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    found, n_texts = numpy.unique(hashes[is_new], return_counts=True)
    return found[n_texts <= MOST_TEXTS]


def _word_tokens(texts: Series) -> Tokens:
    """Read words in lower case without punctuation.

    Replacing by pattern takes 3.5 us a row, so it is left to the rows that are not all ASCII.
    """
    import numpy
    import polars

    lower = texts.fill_null("").str.to_lowercase()
    is_other = (lower.str.len_bytes() != lower.str.len_chars()).to_numpy()
    if is_other.any():
        places = numpy.arange(len(lower))
        places[is_other] = len(lower) + numpy.arange(is_other.sum())
        others = lower.filter(is_other).str.replace_all(NOT_IN_A_WORD, " ")
        lower = polars.concat([lower, others]).gather(places)
    return hash_tokens(lower, is_punctuation_space=True)
