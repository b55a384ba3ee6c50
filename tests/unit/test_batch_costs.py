from __future__ import annotations

import numpy
import pyarrow
import pytest
from trl.data_utils import _pack_bfd

from tasks._batch_costs import PACKED_ROWS, count_packed, padding_fractions, unused_fraction


def test_unused_fraction_is_what_is_left() -> None:
    assert unused_fraction(3, 4) == 0.25
    assert unused_fraction(0, 0) == 0.0


def test_padding_is_counted_by_batch() -> None:
    # Whatever the order, two batches of equal rows hold no padding, one batch of 1 and 3 holds 2.
    assert padding_fractions(numpy.array([5, 5, 5, 5]), 2, 0) == (0.0, 0.0)
    shuffled, grouped = padding_fractions(numpy.array([1, 3]), 2, 0)
    assert shuffled == grouped == pytest.approx(1 - 4 / 6)
    assert padding_fractions(numpy.array([7, 3, 9]), 1, 0) == (0.0, 0.0)
    assert padding_fractions(numpy.array([], dtype=numpy.uint32), 4, 0) == (0.0, 0.0)


def test_grouping_by_length_saves_padding() -> None:
    lengths = numpy.random.default_rng(0).integers(10, 500, 1000).astype(numpy.uint32)
    shuffled, grouped = padding_fractions(lengths, 8, 0)
    assert grouped < 0.05 < shuffled
    assert padding_fractions(lengths, 8, 0) == (shuffled, grouped)


def test_packing_fills_the_fullest_bin_that_has_room() -> None:
    # 6 + 4, 5 + 5, 3: the 3 finds no room.
    assert count_packed(numpy.array([3, 5, 6, 4, 5]), 10) == 3
    assert count_packed(numpy.array([2] * 11), 10) == 3
    assert count_packed(numpy.array([0, 10]), 10) == 1
    assert count_packed(numpy.array([], dtype=numpy.uint32), 10) == 0


@pytest.mark.parametrize("seed", range(5))
def test_packing_needs_as_many_sequences_as_trl(seed: int) -> None:
    generator = numpy.random.default_rng(seed)
    lengths = numpy.minimum(generator.lognormal(4 + seed / 5, 0.8, 800).astype(int) + 1, 512)
    table = pyarrow.table({"input_ids": [[1] * length for length in lengths.tolist()]})
    assert count_packed(lengths, 512) == len(_pack_bfd(table, 512))


def test_each_thousand_rows_is_packed_by_itself() -> None:
    assert count_packed(numpy.array([1] * (PACKED_ROWS + 1)), 2 * PACKED_ROWS) == 2
