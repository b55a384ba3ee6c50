"""The history of a registered name as a page: one HTML file without any outside resource."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.files import write_atomic
from tasks.engine.home import work_directory
from tasks.engine.wording import number
from tasks.registry.history import History, Retrain
from tasks.report._page_parts import render

HEIGHT, TOP = 200.0, 12.0
"""Of the area that a chart draws in, and above it, in pixels. Widths are per cent of the area, so
that the same chart fits a phone and a screen."""
MOST_LABELS = 6
"""Versions named below a chart: more would overlap on a phone."""
N_STEPS = 4
"""Of a vertical axis, about."""


@dataclass(frozen=True)
class Tick:
    """A value named on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A straight line; x in per cent, y in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Point:
    """A version on the chart of losses."""

    retrain: Retrain
    x: float
    y: float
    outcome: str
    text: str
    """The same in words."""


@dataclass(frozen=True)
class LossChart:
    """Held-out loss of every version, of the champion over time, and of the base."""

    points: tuple[Point, ...]
    champions: tuple[Line, ...]
    """Steps from one promoted version to the next, as long as the evaluation rows are the same."""
    bases: tuple[Line, ...]
    changes: tuple[float, ...]
    """Where the evaluation rows changed: losses on either side do not compare."""
    values: tuple[Tick, ...]


@dataclass(frozen=True)
class Bar:
    """One number of a version."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class BarChart:
    """One number of every version that has it."""

    id: str
    title: str
    bars: tuple[Bar, ...]
    values: tuple[Tick, ...]


def outcome_of(retrain: Retrain) -> str:
    """Return promoted, refused, or not promoted (a dry run, or a person declined)."""
    if retrain.promoted_at:
        return "promoted"
    return "refused" if retrain.decision == "refuse" else "not promoted"


def _scale(values: Sequence[float]) -> tuple[tuple[Tick, ...], Callable[[float], float]]:
    """Choose round values that enclose all, and the function from a value to its height."""
    least, most = min(values), max(values)
    step = (most - least) / N_STEPS or abs(most) / N_STEPS or 1.0
    power = math.floor(math.log10(step))
    step = 10.0**power * next(n for n in (1, 2, 5, 10) if n * 10.0**power >= step * 0.999)
    first, last = math.floor(least / step), math.ceil(most / step)
    last = max(last, first + 1)

    def height(value: float) -> float:
        return round(TOP + HEIGHT * (last - value / step) / (last - first), 1)

    n_decimals = max(0, -math.floor(math.log10(step)))
    return tuple(
        Tick(height(place * step), f"{place * step:,.{n_decimals}f}")
        for place in range(first, last + 1)
    ), height


def _place(position: float, n_versions: int) -> float:
    """Find the middle of a version's column, in per cent of the width."""
    return round(100 * (position + 0.5) / n_versions, 2)


def version_labels(retrains: Sequence[Retrain]) -> tuple[tuple[Tick, str], ...]:
    """Choose the versions to name below a chart, each with its date; times where the day is one."""
    days = {one.judged_at.date() for one in retrains}
    years = {day.year for day in days}
    form = "%H:%M" if len(days) == 1 < len(retrains) else "%b %Y" if len(years) > 1 else "%d %b"
    every = -(-len(retrains) // MOST_LABELS)
    return tuple(
        (Tick(_place(place, len(retrains)), f"v{one.version}"), one.judged_at.strftime(form))
        for place, one in enumerate(retrains)
        if (len(retrains) - 1 - place) % every == 0
    )


def loss_chart(retrains: Sequence[Retrain]) -> LossChart | None:
    """Draw the losses of versions, oldest first; None where no version has a loss."""
    losses = [loss for one in retrains if (loss := _finite(one.loss)) is not None]
    bases = [loss for one in retrains if (loss := _finite(one.base_loss)) is not None]
    if not losses:
        return None
    values, height = _scale(losses + bases)
    points = tuple(
        Point(
            one,
            _place(place, len(retrains)),
            height(loss),
            outcome_of(one),
            f"version {one.version}, {one.judged_at:%Y-%m-%d}: loss {number(loss)}, "
            f"{outcome_of(one)}, base {number(one.base_loss)}",
        )
        for place, one in enumerate(retrains)
        if (loss := _finite(one.loss)) is not None
    )
    changes = tuple(
        _place(place + 0.5, len(retrains))
        for place, (one, after) in enumerate(itertools.pairwise(retrains))
        if one.eval_sha256 != after.eval_sha256
    )
    return LossChart(points, _steps(points, changes), _bases(retrains, height), changes, values)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _steps(points: Sequence[Point], changes: Sequence[float]) -> tuple[Line, ...]:
    """Keep the champion's loss level until the next one, or until the evaluation rows change."""
    champions = [point for point in points if point.outcome == "promoted"]
    lines = []
    for point, after in itertools.zip_longest(champions, champions[1:]):
        end = min((x for x in changes if x > point.x), default=100.0)
        if after is None or after.x > end:
            lines.append(Line(point.x, point.y, end, point.y))
            continue
        lines.append(Line(point.x, point.y, after.x, point.y))
        lines.append(Line(after.x, point.y, after.x, after.y))
    return tuple(lines)


def _bases(retrains: Sequence[Retrain], height: Callable[[float], float]) -> tuple[Line, ...]:
    """Join versions next to each other whose base has the same loss on the same rows."""
    lines = []
    groups = itertools.groupby(
        enumerate(retrains), key=lambda one: (one[1].eval_sha256, _finite(one[1].base_loss))
    )
    for (_, loss), group in groups:
        places = [place for place, _ in group]
        if loss is not None:
            ends = (places[0] - 0.5, places[-1] + 0.5)
            left, right = (_place(end, len(retrains)) for end in ends)
            lines.append(Line(left, height(loss), right, height(loss)))
    return tuple(lines)


def bar_charts(retrains: Sequence[Retrain]) -> tuple[BarChart, ...]:
    """Draw training rows, and drift against the champion's rows, where a version has them."""
    rows = [(one, one.n_train_rows) for one in retrains]
    drifts = [(one, one.drift) for one in retrains]
    charts = (
        _bar_chart("rows", "Training rows", rows, "training rows"),
        _bar_chart("drift", "Drift (population stability index)", drifts, "drift"),
    )
    return tuple(chart for chart in charts if chart.bars)


def _bar_chart(
    name: str, title: str, found: Sequence[tuple[Retrain, float | None]], unit: str
) -> BarChart:
    values, height = _scale([0.0, *(value for _, value in found if value is not None)])
    width = round(min(60 / max(len(found), 1), 12.0), 2)
    bars = tuple(
        Bar(
            round(_place(place, len(found)) - width / 2, 2),
            height(value),
            width,
            round(height(0.0) - height(value), 1),
            f"version {one.version}: {number(value)} {unit}",
        )
        for place, (one, value) in enumerate(found)
        if value is not None
    )
    return BarChart(name, title, bars, values)


def render_history(history: History) -> str:
    """Render the page as HTML; everything from the data is escaped."""
    by_version = {one.version: one for one in history.retrains}
    return render(
        "history.html.jinja",
        history=history,
        champion=by_version.get(history.champion_version or 0),
        newest=tuple(reversed(history.retrains)),
        labels=version_labels(history.retrains),
        chart=loss_chart(history.retrains),
        bar_charts=bar_charts(history.retrains) if len(history.retrains) > 1 else (),
        outcome_of=outcome_of,
        bottom=TOP + HEIGHT,
    )


def write_history(history: History) -> Path:
    """Write the page into the work directory and return its path."""
    path = work_directory() / "history" / f"{history.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_history(history))
    return path
