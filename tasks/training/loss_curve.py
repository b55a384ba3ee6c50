"""The picture of a training: its loss, smoothed, and the validation loss, by optimiser step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 1000
"""On the picture; of a longer curve neighbours are averaged."""
LEAST_SMOOTHED = 20
"""Points below which a smoothed line would show nothing."""
SMOOTHED_SHARE = 10
"""The smoothed line averages about a tenth of the curve."""
SIZE_INCHES = (8.0, 3.6)
INK = "#010203"
"""Replaced by the page's text colour when the picture is written."""
STYLE = (
    "<style>:root { color: #222; } "
    "@media (prefers-color-scheme: dark) { :root { color: #ddd; } }</style>"
)
TRAINING_COLOUR, VALIDATION_COLOUR = "#4a86c5", "#d0771e"
"""Legible on white and on black: contrast above 3 (WCAG 2.2, 1.4.11)."""
SETTINGS: Any = {
    "svg.hashsalt": "sft-flow",
    "svg.fonttype": "none",
    "font.size": 10.0,
    "path.simplify": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


class LossPoint(NamedTuple):
    """One point of a curve."""

    step: float
    loss: float
    """Nats per token."""


def curve_points(history: Sequence[dict[str, Any]], name: str) -> list[LossPoint]:
    """Return the finite points of `loss` or `eval_loss` in the log entries."""
    points = [LossPoint(float(one["step"]), float(one[name])) for one in history if name in one]
    return [point for point in points if math.isfinite(point.loss)]


def thin(points: Sequence[LossPoint], most: int = MOST_POINTS) -> list[LossPoint]:
    """Return means of equal runs of neighbours, so that the picture of a long training stays small.

    Of step and loss, at most `most` of them; the last run may be shorter.
    """
    width = max(1, math.ceil(len(points) / most))
    runs = [points[start : start + width] for start in range(0, len(points), width)]
    return [
        LossPoint(sum(one.step for one in run) / len(run), sum(one.loss for one in run) / len(run))
        for run in runs
    ]


def smooth(losses: Sequence[float], span: int) -> list[float]:
    """Compute the centred moving average, which does not lag behind a falling loss.

    Over `span` points; towards both ends over fewer, as many before as after.
    """
    smoothed = []
    for place in range(len(losses)):
        half = min(span // 2, place, len(losses) - 1 - place)
        window = losses[place - half : place + half + 1]
        smoothed.append(sum(window) / len(window))
    return smoothed


def lowest(points: Sequence[LossPoint]) -> LossPoint:
    """Return the lowest point; the first of equals."""
    return min(points, key=lambda point: (point.loss, point.step))


def describe_curve(history: Sequence[dict[str, Any]]) -> str:
    """Describe the picture in words: first, last and lowest loss of each curve."""
    sentences = []
    for name, title in (("loss", "Training loss"), ("eval_loss", "Validation loss")):
        points = curve_points(history, name)
        if points:
            best = lowest(points)
            sentences.append(
                f"{title} from {points[0].loss:.3f} at step {points[0].step:.0f} "
                f"to {points[-1].loss:.3f} at step {points[-1].step:.0f}, "
                f"lowest {best.loss:.3f} at step {best.step:.0f}."
            )
    return " ".join([*sentences, "In nats per token."]) if sentences else "No loss was logged."


def draw_loss_curve(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the picture as SVG; the same history gives the same bytes.

    The text has the reader's light or dark colours.

    Args:
        history: Log entries with `step` and `loss` or `eval_loss`, in nats per token.
        path: The file.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own settings would change the picture
        matplotlib.rcParams.update(SETTINGS)
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        _draw_training(axes, curve_points(history, "loss"))
        _draw_validation(axes, curve_points(history, "eval_loss"))
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss (nats per token)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.patch.set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        metadata = {"Date": None, "Creator": None, "Title": describe_curve(history)}
        figure.savefig(path, format="svg", transparent=True, metadata=metadata)
    text = path.read_text(encoding="utf-8").replace(INK, "currentColor")
    path.write_text(text.replace("<defs>", f"{STYLE}\n <defs>", 1), encoding="utf-8")


def _draw_training(axes: Axes, points: Sequence[LossPoint]) -> None:
    shown = thin(points)
    if not shown:
        return
    steps, losses = zip(*shown, strict=True)
    is_smoothed = len(shown) >= LEAST_SMOOTHED
    axes.plot(
        steps,
        losses,
        color=TRAINING_COLOUR,
        alpha=0.45 if is_smoothed else 1.0,
        linewidth=1.0,
        marker="." if len(shown) == 1 else None,
        label="training",
    )
    if is_smoothed:
        span = len(shown) // SMOOTHED_SHARE // 2 * 2 + 1
        label = f"training, smoothed over {span} points"
        axes.plot(steps, smooth(losses, span), color=TRAINING_COLOUR, linewidth=2.0, label=label)


def _draw_validation(axes: Axes, points: Sequence[LossPoint]) -> None:
    shown = thin(points)
    if not shown:
        return
    steps, losses = zip(*shown, strict=True)
    axes.plot(steps, losses, color=VALIDATION_COLOUR, linewidth=1.5, marker=".", label="validation")
    best = lowest(points)
    axes.plot(
        [best.step],
        [best.loss],
        color=VALIDATION_COLOUR,
        linestyle="none",
        marker="*",
        markersize=12,
        label=f"lowest, step {best.step:.0f}",
    )
