"""Intervals of one side's metrics, from the rows' scores on disk."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from schemas.config.gates import GateConfig
from tasks.decision.intervals import metric_intervals
from tests.toy import write_jsonl

pytestmark = pytest.mark.unit

GATES = GateConfig(n_resamples=200)


def write_scores(folder: Path, losses: list[float], chrf: list[float | None]) -> Path:
    rows: list[dict[str, object]] = [
        {"row": row, "loss_sum_nats": loss, "n_tokens": 4, "n_correct_tokens": 2}
        for row, loss in enumerate(losses)
    ]
    write_jsonl(folder / "losses.jsonl", rows)
    scores: list[dict[str, object]] = [
        {"row": row, "scores": {"chrf": value}} for row, value in enumerate(chrf)
    ]
    write_jsonl(folder / "row_scores.jsonl", scores)
    return folder


def test_interval_of_equal_rows_is_their_figure(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 8.0, 8.0], [0.5, 0.5, 0.5])
    metrics = {"loss": 2.0, "perplexity": math.exp(2), "token_accuracy": 0.5, "chrf": 0.5}
    found = metric_intervals(folder, dict(metrics), GATES, seed=0)
    assert found == {name: (pytest.approx(value),) * 2 for name, value in metrics.items()}


def test_interval_holds_the_figure_and_widens_with_the_spread(tmp_path: Path) -> None:
    ends = []
    for spread in (1.0, 4.0):
        folder = tmp_path / str(spread)
        folder.mkdir()
        write_scores(folder, [8 + spread, 8 - spread] * 10, [None] * 20)
        ends.append(metric_intervals(folder, {"loss": 2.0}, GATES, seed=0)["loss"])
    (low, high), (far_low, far_high) = ends
    assert far_low < low < 2.0 < high < far_high


def test_metrics_without_a_figure_or_with_one_row_have_no_interval(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 7.0], [0.5, None])
    found = metric_intervals(folder, {"chrf": 0.5, "exact_match": None}, GATES, seed=0)
    assert found == {}
