"""The history of a registered name as a page: one HTML file without any outside resource."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.files import write_atomic
from tasks.engine.home import work_directory
from tasks.registry.history import History, Retrain
from tasks.report._page_parts import visible

TEMPLATES = Path(__file__).parent / "pages"
PAGE = TEMPLATES / "history.html.jinja"
WIDTH, HEIGHT, MARGIN = 640.0, 220.0, 30.0
"""Of a chart, in units of the picture."""


@dataclass(frozen=True)
class Point:
    """Where a version lies on a chart."""

    retrain: Retrain
    x: float
    y: float
    text: str
    """What the point says, in words."""


@dataclass(frozen=True)
class LossChart:
    """Held-out loss of every version, and of the champion over time."""

    points: tuple[Point, ...]
    lines: tuple[str, ...]
    """SVG points of each stretch of champions that were judged on the same rows."""
    most: float
    least: float


@dataclass(frozen=True)
class Bar:
    """One figure of a version."""

    retrain: Retrain
    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class BarChart:
    """One figure of every version that has it."""

    id: str
    title: str
    bars: tuple[Bar, ...]
    most: str
    """The highest figure, as text."""


def outcome_of(retrain: Retrain) -> str:
    """Say in a word what became of a version.

    Args:
        retrain: The version.

    Returns:
        promoted, refused, or not promoted (a dry run, or a person said no).
    """
    if retrain.promoted_at:
        return "promoted"
    return "refused" if retrain.decision == "refuse" else "not promoted"


def loss_chart(retrains: Sequence[Retrain]) -> LossChart | None:
    """Lay out the losses over time.

    Args:
        retrains: Oldest first.

    Returns:
        The chart; None where no version has a loss.
    """
    judged = [(one, one.loss) for one in retrains if one.loss is not None]
    if not judged:
        return None
    losses = [loss for _, loss in judged]
    least, most = min(losses), max(losses)
    step = (WIDTH - 2 * MARGIN) / max(len(judged) - 1, 1)
    scale = (HEIGHT - 2 * MARGIN) / ((most - least) or 1.0)
    points = tuple(
        Point(
            one,
            round(MARGIN + place * step, 1),
            round(MARGIN + (most - loss) * scale, 1),
            f"version {one.version}, {one.judged_at:%Y-%m-%d}: loss {loss:.4f}, {outcome_of(one)}",
        )
        for place, (one, loss) in enumerate(judged)
    )
    return LossChart(points, _lines(points), most, least)


def _lines(points: Sequence[Point]) -> tuple[str, ...]:
    """Join the champions; a gap where the evaluation rows changed, since losses do not compare."""
    stretches: list[list[Point]] = []
    for point in points:
        if not point.retrain.promoted_at:
            continue
        before = stretches[-1][-1].retrain.eval_sha256 if stretches else None
        if before != point.retrain.eval_sha256:
            stretches.append([])
        stretches[-1].append(point)
    return tuple(
        " ".join(f"{point.x},{point.y}" for point in stretch)
        for stretch in stretches
        if len(stretch) > 1
    )


def bar_charts(retrains: Sequence[Retrain]) -> tuple[BarChart, ...]:
    """Lay out what is known of the data over time.

    Args:
        retrains: Oldest first.

    Returns:
        Training rows, and drift against the champion's rows; without those no version has.
    """
    rows = [(one, one.n_train_rows) for one in retrains]
    drifts = [(one, one.drift) for one in retrains]
    charts = (
        _bar_chart("rows", "Training rows over time", rows, "{:,.0f} training rows"),
        _bar_chart("drift", "Drift over time", drifts, "population stability index {:.3f}"),
    )
    return tuple(chart for chart in charts if chart.bars)


def _bar_chart(
    name: str, title: str, figures: Sequence[tuple[Retrain, float | None]], wording: str
) -> BarChart:
    most = max((figure for _, figure in figures if figure is not None), default=0.0)
    slot = (WIDTH - 2 * MARGIN) / max(len(figures), 1)
    width = min(slot * 0.7, 48.0)
    bars = []
    for place, (one, figure) in enumerate(figures):
        if figure is None:
            continue
        height = round((HEIGHT - 2 * MARGIN) * figure / (most or 1.0), 1)
        bars.append(
            Bar(
                one,
                round(MARGIN + place * slot + (slot - width) / 2, 1),
                round(HEIGHT - MARGIN - height, 1),
                round(width, 1),
                height,
                f"version {one.version}: {wording.format(figure)}",
            )
        )
    return BarChart(name, title, tuple(bars), wording.format(most))


def render_history(history: History) -> str:
    """Render the page.

    Args:
        history: What is known of the name.

    Returns:
        HTML; everything from the data is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["visible"] = visible
    return environment.get_template(PAGE.name).render(
        history=history,
        champion=next(
            (one for one in history.retrains if one.version == history.champion_version), None
        ),
        newest=tuple(reversed(history.retrains)),
        chart=loss_chart(history.retrains),
        bar_charts=bar_charts(history.retrains),
        outcome_of=outcome_of,
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
    )


def history_path(name: str) -> Path:
    """Name the page of a registered name.

    Args:
        name: Registered model name.

    Returns:
        A path in the work directory.
    """
    return work_directory() / "history" / f"{name}.html"


def write_history(history: History) -> Path:
    """Write the page anew.

    Args:
        history: What is known of the name.

    Returns:
        Its path.
    """
    path = history_path(history.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_history(history))
    return path
