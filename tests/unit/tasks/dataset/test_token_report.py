from __future__ import annotations

import numpy
import pyarrow
import pytest
from trl.data_utils import _pack_bfd

from schemas.config.run import QualityConfig, RunConfig
from schemas.config.training import TrainingConfig
from tasks.dataset._token_report import (
    PACKED_ROWS,
    count_packed,
    count_steps,
    length_quantiles,
    make_token_report,
    padding_fractions,
    unused_fraction,
)


def columns(rows: list[tuple[int, int, bool]]) -> dict[str, numpy.ndarray]:
    return {
        "n_tokens": numpy.array([row[0] for row in rows], dtype=numpy.uint32),
        "n_supervised_tokens": numpy.array([row[1] for row in rows], dtype=numpy.uint32),
        "is_written": numpy.array([row[2] for row in rows], dtype=bool),
    }


def test_report_counts_tokens_steps_and_time() -> None:
    rows = [(60, 20, True), (40, 20, True), (30, 10, True), (200, 100, False), (0, 0, False)]
    training = TrainingConfig(
        packing_length_tokens=100, per_device_train_batch_size=2, num_train_epochs=3
    )
    config = RunConfig(training=training, quality=QualityConfig(max_length_tokens=128))
    report = make_token_report(columns(rows), config, tokens_per_second=10)
    assert (report.n_rows, report.n_kept_rows) == (5, 3)
    assert (report.n_tokens, report.n_supervised_tokens) == (130, 50)
    assert report.supervised_fraction == 50 / 130
    # Of the four rows with tokens, in order 30, 40, 60, 200.
    assert report.length_tokens["p50"] == 40
    assert report.length_tokens["max"] == report.max_length_for_99_percent == 200
    assert report.supervised_length_tokens["p50"] == 20
    assert report.max_length_tokens == 128
    # 60 + 40 and 30: two sequences of 100, one step an epoch.
    assert report.packing_unfilled_fraction == pytest.approx(1 - 130 / 200)
    assert (report.n_sequences, report.n_steps_per_epoch, report.n_steps) == (2, 1, 3)
    assert report.seconds == 39.0


def test_report_without_packing_counts_rows() -> None:
    rows = [(60, 20, True), (60, 20, True), (60, 20, True)]
    training = TrainingConfig(packing=False, per_device_train_batch_size=2)
    report = make_token_report(columns(rows), RunConfig(training=training), 10)
    assert (report.has_packing, report.n_sequences, report.n_steps) == (False, 3, 2)
    assert report.padding_fraction == report.grouped_padding_fraction == 0


def test_report_of_no_rows_is_zero() -> None:
    report = make_token_report(columns([]), RunConfig(), 10)
    assert (report.n_rows, report.n_steps, report.seconds, report.length_tokens["max"]) == (
        0,
        0,
        0.0,
        0,
    )


def test_quantile_is_the_length_that_keeps_so_many_rows_whole() -> None:
    found = length_quantiles(numpy.arange(1000, 0, -1))
    assert found == {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999, "max": 1000}
    assert length_quantiles(numpy.array([7]))["p50"] == 7


def test_steps_follow_batch_and_epochs() -> None:
    training = TrainingConfig(
        per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=1.5
    )
    assert count_steps(9, training) == (3, 5)
    assert count_steps(9, training.model_copy(update={"max_steps": 7})) == (3, 7)
    assert count_steps(0, training) == (0, 0)


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
