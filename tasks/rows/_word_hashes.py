"""Words of many texts as flat arrays of hashes, and hashes of runs of words, without Python loops.

A text is read as words separated by white space. Scripts that put no spaces between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) are read character by character, so runs work for them too.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray
    from polars import Series

CHUNK_BYTES = 1 << 17
"""Bytes hashed at a time; the work arrays of one chunk stay in the processor's cache."""
MOST_TOKEN_BYTES = 4096
"""Only so much of a word is looked at: a picture pasted as base64 must not fill the memory."""
BASE = 0x9E3779B97F4A7C15
MIXER = 0xBF58476D1CE4E5B9
LAST_SEPARATOR = 0x20


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token hashes of many rows, one after another.

    Shape:
        hashes (n_tokens,) uint64; offsets (n_rows + 1,) int64: row i owns
        hashes[offsets[i]:offsets[i + 1]].
    """

    hashes: ndarray
    offsets: ndarray


def hash_tokens(texts: Series, *, is_punctuation_space: bool = False) -> Tokens:
    """Hash each word of each text.

    The hash is a polynomial over the UTF-8 bytes, mixed at the end; it depends on nothing but the
    bytes, so it is the same in every process and under every version of every library.

    Args:
        texts: One text a row; null counts as empty.
        is_punctuation_space: Whether ASCII characters other than letters and digits separate
            words as white space does.

    Returns:
        The hashes, row after row.
    """
    import numpy

    data, byte_offsets = _flat_bytes(texts)
    offsets = numpy.zeros(len(byte_offsets), dtype=numpy.int64)
    parts = [numpy.zeros(0, dtype=numpy.uint64)]
    n_tokens = 0
    for low in range(0, len(data), CHUNK_BYTES):
        starts, ends, window = _find_tokens(data, low, is_punctuation_space)
        first, last = numpy.searchsorted(byte_offsets, (low, low + CHUNK_BYTES))
        offsets[first:last] = n_tokens + numpy.searchsorted(starts, byte_offsets[first:last] - low)
        parts.append(_hash_ranges(window, starts, ends))
        n_tokens += len(starts)
    offsets[-1] = n_tokens
    return Tokens(numpy.concatenate(parts), offsets)


def hash_runs(tokens: Tokens, length: int, *, keep_short: bool = False) -> Tokens:
    """Hash each run of so many neighbouring tokens; none runs over the end of its row.

    Args:
        tokens: The tokens.
        length: Tokens a run, at least 1.
        keep_short: Whether a row with fewer tokens gives one run, of all it has.

    Returns:
        The hashes of the runs, row after row; `n - length + 1` for a row of n tokens.
    """
    import numpy

    hashes, offsets = tokens.hashes, tokens.offsets
    counts = numpy.diff(offsets)
    runs = _run_of(hashes, length)
    is_run = numpy.ones(len(hashes), dtype=bool)
    for back in range(1, length):
        ends = offsets[1:][counts >= back]
        is_run[ends - back] = False
    n_runs = numpy.maximum(counts - (length - 1), 0)
    if keep_short:
        for n_short in range(1, length):
            starts = offsets[:-1][counts == n_short]
            if len(starts):
                runs[starts] = run_at(hashes, starts, n_short)
                is_run[starts] = True
        n_runs[counts > 0] = numpy.maximum(n_runs[counts > 0], 1)
    run_offsets = numpy.zeros(len(offsets), dtype=numpy.int64)
    numpy.cumsum(n_runs, out=run_offsets[1:])
    return Tokens(_mix(runs[is_run]), run_offsets)


def _flat_bytes(texts: Series) -> tuple[ndarray, ndarray]:
    """Write the texts to one buffer, each followed by a space so that no word crosses rows."""
    import numpy
    import polars

    if not len(texts):
        return numpy.zeros(0, dtype=numpy.uint8), numpy.zeros(1, dtype=numpy.int64)
    spaced = texts.fill_null("") + " "
    column = spaced.to_arrow(compat_level=polars.CompatLevel.oldest())
    _, offsets, data = column.buffers()
    ends = numpy.frombuffer(offsets, dtype=numpy.int64)
    ends = ends[column.offset : column.offset + len(column) + 1]
    return numpy.frombuffer(data, dtype=numpy.uint8)[ends[0] : ends[-1]], ends - ends[0]


def _find_tokens(
    data: ndarray, low: int, is_punctuation_space: bool
) -> tuple[ndarray, ndarray, ndarray]:
    """Find the tokens that start in the chunk at `low`: starts, ends, and the bytes from `low`."""
    import numpy

    window = data[low : low + CHUNK_BYTES + MOST_TOKEN_BYTES]
    margin = min(low, 3)
    seen = data[low - margin : low + len(window)]
    is_word = _word_bytes().take(seen) if is_punctuation_space else seen > LAST_SEPARATOR
    is_gap = ~is_word
    begins, stops = is_word.copy(), is_word.copy()
    begins[1:] &= is_gap[:-1]
    stops[:-1] &= is_gap[1:]
    if seen.max() >= 0xE0:
        is_own = _starts_own_token(seen)
        begins |= is_own
        begins[3:] |= is_own[:-3] & is_word[3:]
        stops[2:] |= is_own[:-2]
        stops[:-1] |= is_own[1:] & is_word[:-1]
    starts = numpy.flatnonzero(begins[margin : margin + CHUNK_BYTES])
    ends = numpy.flatnonzero(stops[margin:]) + 1
    if not len(starts):
        return starts, ends[:0], window
    ends = ends[numpy.searchsorted(ends, starts[0], side="right") :][: len(starts)]
    if len(ends) < len(starts):
        ends = numpy.append(ends, len(window))
    return starts, numpy.minimum(ends, starts + MOST_TOKEN_BYTES), window


def _starts_own_token(seen: ndarray) -> ndarray:
    """Mark the first byte of each character of a script without spaces.

    In UTF-8 all of them take three bytes: U+3000 to U+9FFF begin with E3 to E9, Thai and Lao with
    E0 B8 to E0 BB, Burmese with E1 80 to E1 82, Khmer with E1 9E and E1 9F.
    """
    import numpy

    after = numpy.zeros_like(seen)
    after[:-1] = seen[1:]
    is_own = (seen >= 0xE3) & (seen <= 0xE9)
    is_own |= (seen == 0xE0) & (after >= 0xB8) & (after <= 0xBB)
    is_burmese = (after >= 0x80) & (after <= 0x82)
    is_khmer = (after == 0x9E) | (after == 0x9F)
    return is_own | ((seen == 0xE1) & (is_burmese | is_khmer))


@functools.cache
def _word_bytes() -> ndarray:
    """Mark ASCII letters and digits, and every byte of other characters."""
    import numpy

    return numpy.array([byte >= 0x80 or chr(byte).isalnum() for byte in range(256)])


@functools.cache
def _powers() -> ndarray:
    """Powers of the base modulo 2^64, as many as a chunk has bytes."""
    import numpy

    powers = numpy.full(CHUNK_BYTES + MOST_TOKEN_BYTES + 1, BASE, dtype=numpy.uint64)
    powers[0] = 1
    return numpy.cumprod(powers)


def _hash_ranges(window: ndarray, starts: ndarray, ends: ndarray) -> ndarray:
    """Hash byte ranges.

    The sum of byte_i * base^i is taken over the whole window once; a range is the difference of
    two of its prefixes, brought to a common power by base^(len(window) - start).
    """
    import numpy

    powers = _powers()
    prefix = numpy.zeros(len(window) + 1, dtype=numpy.uint64)
    numpy.multiply(window, powers[: len(window)], out=prefix[1:])
    numpy.cumsum(prefix, out=prefix)
    return _mix((prefix[ends] - prefix[starts]) * powers[len(powers) - 1 - starts])


def _run_of(hashes: ndarray, length: int) -> ndarray:
    """Combine each token with those behind it by doubling: log2(length) passes, not length.

    The run h_0 ... h_(length-1) gives the sum of h_i * base^(length-1-i), modulo 2^64; places
    too near the end for a complete run have no meaning.
    """
    import numpy

    base = numpy.uint64(BASE)
    runs, n_joined = hashes.copy(), 1
    for bit in bin(length)[3:]:
        factor = numpy.uint64(pow(BASE, n_joined, 1 << 64))
        joined = runs * factor
        joined[: max(len(runs) - n_joined, 0)] += runs[n_joined:]
        runs, n_joined = joined, n_joined * 2
        if bit == "1":
            joined = runs * base
            joined[: max(len(runs) - n_joined, 0)] += hashes[n_joined:]
            runs, n_joined = joined, n_joined + 1
    return runs


def run_at(hashes: ndarray, starts: ndarray, length: int) -> ndarray:
    """Combine the tokens of a few runs, as `_run_of` does for all."""
    import numpy

    runs = numpy.zeros(len(starts), dtype=numpy.uint64)
    for step in range(length):
        runs = runs * numpy.uint64(BASE) + hashes[starts + step]
    return runs


def _mix(values: ndarray) -> ndarray:
    """Spread each value over all 64 bits."""
    import numpy

    mixed = values ^ (values >> numpy.uint64(32))
    mixed *= numpy.uint64(MIXER)
    mixed ^= mixed >> numpy.uint64(29)
    return mixed
