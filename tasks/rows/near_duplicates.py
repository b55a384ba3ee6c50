"""Near duplicates: MinHash signatures in the workers, banded look-up with files in the parent.

Source: Broder, On the resemblance and containment of documents (1997); banding as in Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, 3rd edition, section 3.4.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from schemas.errors import WorkDirectoryError
from tasks.rows._pairs import are_ends_alike, estimated_similarities, join_labels, shared_buckets
from tasks.rows._word_hashes import Tokens, hash_runs, hash_tokens
from tasks.rows.shared_text import END_BYTES, OwnWords

if TYPE_CHECKING:
    from numpy import ndarray
    from polars import Series

DEFAULT_THRESHOLD = 0.8
N_PERMUTATIONS = 128
"""The standard error of an estimated similarity J is sqrt(J (1 - J) / 128): 0.035 at J = 0.8."""
SHINGLE_WORDS = 3
MISSED_FRACTION = 0.003
"""Share of pairs exactly at the threshold that no band may bring together."""
SEED = 42
DIGEST_ROWS = 256
"""Rows signed at a time. Numbers leave the library as Python integers: 256 rows of them stay in
the cache and take less than half the time that 20,000 take (4.0 against 9.3 us a row)."""
VERIFY_PAIRS = 1 << 16
READ_ROWS = 1 << 13
MOST_ROUNDS = 4
"""How often a bucket is gone through with a new first row: a bucket of m rows unlike each other, as
a long template makes them, costs at most 8 m comparisons."""
VALUE_WORDS = N_PERMUTATIONS // 4
END_COLUMNS = END_BYTES // 4
ALIKE_PAIRS = 1 << 12
"""Pairs whose ends are compared word by word at a time: 2 MiB."""
BAND_FACTOR = 0x9E3779B97F4A7C15
HIGH_HALF = 32
"""A product modulo 2^64 is best mixed in its upper 32 bits."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """For each row the first row of its cluster, its own number where it is alone.

    Shape:
        alike, copies: (rows,) uint32.
    """

    alike: ndarray
    """Of rows that share most of their text, so must not be on both sides of a split."""
    copies: ndarray
    """Of those whose last questions and answers are nearly the same too: near duplicates."""


@dataclass(frozen=True, slots=True)
class Banding:
    """How a signature is cut into bands: rows that agree on one whole band are compared."""

    n_bands: int
    band_width: int


def plan_bands(threshold: float) -> Banding:
    """Choose bands so that pairs at the threshold are found and few others are compared.

    A pair of similarity s shares a band of width w with the probability s^w, and at least one of
    b bands with 1 - (1 - s^w)^b. The width makes s^w about 0.4 at the threshold, the number of
    bands follows from `MISSED_FRACTION`.

    Args:
        threshold: Similarity from which rows count as near duplicates, above 0, at most 1.

    Returns:
        The bands; 12 of width 4 at 0.8, which miss 0.2 % of the pairs at 0.8.
    """
    at_most = min(threshold, 0.97)
    width = max(2, min(round(math.log(0.4) / math.log(at_most)), 10))
    n_bands = math.ceil(math.log(MISSED_FRACTION) / math.log1p(-(at_most**width)))
    return Banding(min(n_bands, N_PERMUTATIONS // width), width)


def signatures(texts: Series, threshold: float = DEFAULT_THRESHOLD) -> ndarray:
    """Sign texts by the runs of three words in them, see `sign_words`.

    Args:
        texts: One text a row, lower-cased, white space collapsed.
        threshold: The one the index is made with.

    Returns:
        What `NearDuplicateIndex.add` takes.
    """
    return sign_words(hash_tokens(texts), threshold)


def sign_rows(own: OwnWords, threshold: float = DEFAULT_THRESHOLD) -> ndarray:
    """Sign rows by their own words, and put the ends of questions and answers behind.

    Args:
        own: What rows do not share.
        threshold: The one the index is made with.

    Returns:
        What `NearDuplicateIndex.add` takes.
    """
    import numpy

    signed = sign_words(own.words, threshold)
    signed[:, -END_COLUMNS:] = numpy.ascontiguousarray(own.ends).view(numpy.uint32)
    return signed


def sign_words(words: Tokens, threshold: float = DEFAULT_THRESHOLD) -> ndarray:
    """Sign rows by the runs of three words in them.

    A row of one or two words is one run; a row without words is like other such rows only.

    Args:
        words: Of all rows.
        threshold: The one the index is made with.

    Returns:
        What `NearDuplicateIndex.add` takes.

    Shape:
        (n_rows, 1 + n_bands + 32 + 16) uint32: a hash of the whole signature, one of each band,
        the lowest byte of each of the 128 minima, four to a number, and zeros for the ends.
    """
    import numpy

    banding = plan_bands(threshold)
    shingles = hash_runs(words, SHINGLE_WORDS, keep_short=True)
    n_columns = 1 + banding.n_bands + VALUE_WORDS + END_COLUMNS
    signed = numpy.zeros((len(words.offsets) - 1, n_columns), dtype=numpy.uint32)
    n_banded, width = banding.n_bands * banding.band_width, banding.band_width
    powers = [pow(BAND_FACTOR, step, 1 << 64) for step in range(1, N_PERMUTATIONS + 1)]
    factors = numpy.array(powers, dtype=numpy.uint64)
    for low, minima in _minima(shingles):
        part = signed[low : low + len(minima)]
        wide = minima.astype(numpy.uint64)
        part[:, 0] = (wide @ factors) >> HIGH_HALF
        bands = wide[:, :n_banded].reshape(-1, banding.n_bands, width)
        part[:, 1 : 1 + banding.n_bands] = (bands @ factors[:width]) >> HIGH_HALF
        part[:, 1 + banding.n_bands : -END_COLUMNS] = minima.astype(numpy.uint8).view(numpy.uint32)
    return signed


def _minima(shingles: Tokens) -> Iterator[tuple[int, ndarray]]:
    """Take the MinHash of each row, some rows at a time."""
    import numpy
    from rensa import RMinHash

    offsets = shingles.offsets.astype(numpy.uint64)
    pack = struct.Struct(f"={N_PERMUTATIONS}I").pack
    for low in range(0, len(offsets) - 1, DIGEST_ROWS):
        part = offsets[low : low + DIGEST_ROWS + 1]
        hashes = shingles.hashes[part[0] : part[-1]]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, part - part[0], num_perm=N_PERMUTATIONS, seed=SEED
        )
        packed = b"".join([pack(*row) for row in matrix.to_rows()])
        minima = numpy.frombuffer(packed, dtype=numpy.uint32)
        yield low, minima.reshape(-1, N_PERMUTATIONS)


class NearDuplicateIndex:
    """Signatures of a whole set on disk, and the clusters of near duplicates among them.

    Nothing of a row stays in memory while rows are added; finding clusters takes about 50 bytes a
    row, whatever the rows contain. The files take 4 * (1 + n_bands) + 192 bytes a row.
    """

    def __init__(self, folder: Path, threshold: float = DEFAULT_THRESHOLD) -> None:
        """Open the files.

        Args:
            folder: An existing folder of its own.
            threshold: Estimated Jaccard similarity from which two rows are near duplicates.

        Raises:
            WorkDirectoryError: The files cannot be made.
        """
        self.threshold = threshold
        self.n_rows = 0
        self._n_keys = 1 + plan_bands(threshold).n_bands
        self._paths = [folder / f"band_{band:02d}.bin" for band in range(self._n_keys)]
        self._paths += [folder / "values.bin", folder / "ends.bin"]
        self._files: list[BinaryIO] = []
        try:
            for path in self._paths:
                self._files.append(path.open("wb"))
        except OSError as error:
            self.close()
            raise _cannot_write(folder, error) from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the files."""
        self.close()

    def add(self, block: ndarray) -> None:
        """Append the signatures of the next rows.

        Args:
            block: What `signatures` gave.

        Raises:
            WorkDirectoryError: The disk is full.
        """
        try:
            for band in range(self._n_keys):
                self._files[band].write(block[:, band].tobytes())
            self._files[-2].write(block[:, self._n_keys : -END_COLUMNS].tobytes())
            self._files[-1].write(block[:, -END_COLUMNS:].tobytes())
        except OSError as error:
            raise _cannot_write(self._paths[0].parent, error) from error
        self.n_rows += len(block)

    def clusters(self) -> Clusters:
        """Find the clusters of near duplicates among all rows added.

        Rows that share a bucket of a band are compared with the first row of the bucket and with
        the row before them, and pairs at or above the threshold are joined; so a cluster is a
        chain, and a bucket of m rows costs O(m).

        Returns:
            The clusters.

        Raises:
            WorkDirectoryError: The disk is full.
        """
        import numpy

        try:
            for file in self._files:
                file.flush()
        except OSError as error:
            raise _cannot_write(self._paths[0].parent, error) from error
        rows = numpy.arange(self.n_rows, dtype=numpy.uint32)
        found = Clusters(rows.copy(), rows.copy())
        for band in range(self._n_keys):
            keys = numpy.fromfile(self._paths[band], dtype=numpy.uint32)
            self._join_buckets(*shared_buckets(keys, rows), found)
            if band == 0:
                # Band 0 is the whole signature: of rows that agree on it only the first is compared.
                rows = rows[found.copies == rows]
        return found

    def close(self) -> None:
        """Close and remove the files."""
        for file in self._files:
            # What a full disk left unwritten is not needed any more.
            with contextlib.suppress(OSError):
                file.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._files = []

    def _join_buckets(self, keys: ndarray, rows: ndarray, found: Clusters) -> None:
        """Compare the rows of each bucket with its first row, then continue with the rest."""
        import numpy

        for _ in range(MOST_ROUNDS):
            if not len(rows):
                return
            is_first = numpy.ones(len(rows), dtype=bool)
            numpy.not_equal(keys[1:], keys[:-1], out=is_first[1:])
            places = numpy.maximum.accumulate(numpy.where(is_first, numpy.arange(len(rows)), 0))
            is_other = ~is_first
            others, firsts = rows[is_other], rows[places[is_other]]
            before = rows[:-1][is_other[1:]]
            self._join_pairs(firsts, others, found)
            self._join_pairs(before, others, found)
            is_left = found.copies[firsts] != found.copies[others]
            keys, rows = keys[is_other][is_left], others[is_left]

    def _join_pairs(self, left: ndarray, right: ndarray, found: Clusters) -> None:
        """Join those pairs that are similar enough and no copies yet."""
        for low in range(0, len(left), VERIFY_PAIRS):
            some, others = left[low : low + VERIFY_PAIRS], right[low : low + VERIFY_PAIRS]
            is_apart = found.copies[some] != found.copies[others]
            some, others = some[is_apart], others[is_apart]
            if not len(some):
                continue
            is_near = self._similarities(some, others) >= self.threshold
            some, others = some[is_near], others[is_near]
            join_labels(found.alike, some, others)
            for part in range(0, len(some), ALIKE_PAIRS):
                one, other = some[part : part + ALIKE_PAIRS], others[part : part + ALIKE_PAIRS]
                is_copy = are_ends_alike(*self._read(one, other, -1, END_BYTES))
                join_labels(found.copies, one[is_copy], other[is_copy])

    def _similarities(self, left: ndarray, right: ndarray) -> ndarray:
        """Estimate the Jaccard similarity of pairs of rows."""
        return estimated_similarities(*self._read(left, right, -2, N_PERMUTATIONS))

    def _read(
        self, left: ndarray, right: ndarray, file: int, n_bytes: int
    ) -> tuple[ndarray, ndarray]:
        """Read the bytes of both rows of each pair."""
        import numpy

        is_read = numpy.zeros(self.n_rows, dtype=bool)
        is_read[left] = is_read[right] = True
        rows = numpy.flatnonzero(is_read)
        places = numpy.empty(self.n_rows, dtype=numpy.uint32)
        places[rows] = numpy.arange(len(rows), dtype=numpy.uint32)
        values = self._read_rows(rows, file, n_bytes)
        return values.take(places[left], axis=0), values.take(places[right], axis=0)

    def _read_rows(self, rows: ndarray, file: int, n_bytes: int) -> ndarray:
        """Read bytes of rows back, block by block; a memory map would count as memory in use."""
        import numpy

        values = numpy.empty((len(rows), n_bytes), dtype=numpy.uint8)
        for block in numpy.unique(rows // READ_ROWS).tolist():
            first = block * READ_ROWS
            low, high = numpy.searchsorted(rows, (first, first + READ_ROWS))
            read = numpy.fromfile(
                self._paths[file],
                dtype=numpy.uint8,
                count=READ_ROWS * n_bytes,
                offset=first * n_bytes,
            )
            read = read.reshape(-1, n_bytes)
            values[low:high] = read.take(rows[low:high] - first, axis=0)
        return values


def _cannot_write(folder: Path, error: OSError) -> WorkDirectoryError:
    return WorkDirectoryError(
        "The working files for near duplicates cannot be written.",
        where=str(folder),
        got=error.strerror or str(error),
        fix="Free some space there (250 bytes a row), or set "
        "quality.rules.near_duplicate_fraction.severity=off.",
    )
