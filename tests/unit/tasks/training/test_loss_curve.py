from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from tasks.training.loss_curve import (
    LossPoint,
    curve_points,
    describe_curve,
    draw_loss_curve,
    lowest,
    smooth,
    thin,
)

HISTORY = [
    {"step": 1, "loss": 3.0},
    {"step": 2, "loss": math.nan},
    {"step": 2, "eval_loss": 2.5},
    {"step": 3, "loss": 1.5},
    {"step": 4, "loss": 2.0},
    {"step": 4, "eval_loss": 2.75},
]


def test_curve_points_takes_one_finite_curve() -> None:
    assert curve_points(HISTORY, "loss") == [(1, 3.0), (3, 1.5), (4, 2.0)]
    assert curve_points(HISTORY, "eval_loss") == [(2, 2.5), (4, 2.75)]


def test_smooth_averages_as_many_points_before_as_after() -> None:
    assert smooth([4.0, 1.0, 1.0, 4.0], 3) == [4.0, 2.0, 2.0, 4.0]
    assert smooth([5.0, 4.0, 3.0, 2.0, 1.0], 5) == [5.0, 4.0, 3.0, 2.0, 1.0]  # no lag
    assert smooth([], 5) == []


def test_thin_averages_neighbours() -> None:
    points = [LossPoint(step, 10.0 * step) for step in range(1, 6)]
    assert thin(points, 3) == [(1.5, 15.0), (3.5, 35.0), (5.0, 50.0)]
    assert thin(points, 5) == points
    assert thin([]) == []


def test_lowest_is_the_first_of_equals() -> None:
    assert lowest([LossPoint(1, 2.0), LossPoint(2, 1.0), LossPoint(3, 1.0)]) == (2, 1.0)


def test_describe_curve_gives_first_last_and_lowest() -> None:
    assert describe_curve(HISTORY) == (
        "Training loss from 3.000 at step 1 to 2.000 at step 4, lowest 1.500 at step 3. "
        "Validation loss from 2.500 at step 2 to 2.750 at step 4, lowest 2.500 at step 2. "
        "In nats per token."
    )
    assert describe_curve([]) == "No loss was logged."


def test_draw_loss_curve_is_the_same_twice_whatever_the_users_settings(tmp_path: Path) -> None:
    import matplotlib

    draw_loss_curve(HISTORY, tmp_path / "one.svg")
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.hashsalt": "mine", "font.size": 30}):
        draw_loss_curve(HISTORY, tmp_path / "two.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_draw_loss_curve_labels_its_axes_marks_the_best_and_follows_the_page(
    tmp_path: Path,
) -> None:
    path = tmp_path / "curve.svg"
    draw_loss_curve(HISTORY, path)
    text = path.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own picture
    for shown in ("optimiser step", "loss (nats per token)", "lowest, step 2", "validation"):
        assert f">{shown}</text>" in text
    assert f"<title>{describe_curve(HISTORY)}</title>" in text
    assert "prefers-color-scheme: dark" in text
    assert "fill: currentColor" in text
    assert "smoothed" not in text
    assert "<dc:date>" not in text


def test_draw_loss_curve_smooths_a_long_curve(tmp_path: Path) -> None:
    draw_loss_curve([{"step": n, "loss": 1.0 / n} for n in range(1, 41)], tmp_path / "c.svg")
    assert "training, smoothed over 5 points" in (tmp_path / "c.svg").read_text(encoding="utf-8")


def test_draw_loss_curve_without_a_curve_is_empty_axes(tmp_path: Path) -> None:
    draw_loss_curve([], tmp_path / "c.svg")
    assert "No loss was logged." in (tmp_path / "c.svg").read_text(encoding="utf-8")


def test_draw_loss_curve_of_many_steps_stays_small(tmp_path: Path) -> None:
    history = [{"step": n, "loss": 2 + n % 7} for n in range(1, 50_001)]
    draw_loss_curve(history, tmp_path / "c.svg")
    assert (tmp_path / "c.svg").stat().st_size < 200_000
