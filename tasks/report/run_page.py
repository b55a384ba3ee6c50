"""The report of a run as a page: one HTML file without any outside resource."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.wording import seconds_text, share
from tasks.report._answers import compare_answers
from tasks.report._artifacts import mlflow_links
from tasks.report._page_parts import cut_row, visible
from tasks.report.document import outcome
from tasks.training.loss_curve import describe_curve

TEMPLATES = Path(__file__).parent / "pages"
PAGE = TEMPLATES / "report.html.jinja"
PAGE_FILES = tuple(
    TEMPLATES / name
    for name in (
        PAGE.name,
        "page.css",
        "report.css",
        "token_rows.css",
        "token_rows.html.jinja",
        "sort_tables.js",
    )
)
"""Everything that shapes the page."""
VERDICTS_FIRST = ("failed", "warned")

WIDTH = 560.0
MARGIN = 24.0
"""Room beside the outermost figure, in units of the picture."""


def embed_curve(picture: Path, history: list[dict[str, Any]]) -> dict[str, str]:
    """Make the loss curve part of the page.

    Args:
        picture: The SVG file that the training wrote.
        history: Log entries of the training.

    Returns:
        `source`, a data address (RFC 2397), and `text`, the same in words.
    """
    # On its white card the curve keeps its light colours in dark mode too.
    svg = picture.read_bytes().replace(b"prefers-color-scheme: dark", b"not all")
    encoded = base64.b64encode(svg).decode("ascii")
    return {"source": f"data:image/svg+xml;base64,{encoded}", "text": describe_curve(history)}


def render_page(report: dict[str, Any], curve: dict[str, str]) -> str:
    """Render the page: one HTML file without any outside resource.

    Args:
        report: What `build_report` made.
        curve: What `embed_curve` made.

    Returns:
        HTML; everything from the data is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(visible=visible, share=share)
    found_rules, quiet_rules = sort_rules(report["data"]["rules"])
    times = [entry["seconds"] or 0.0 for entry in report["timings"]["stages"]]
    return environment.get_template(PAGE.name).render(
        report=report,
        outcome=outcome(report),
        curve=curve,
        figures=training_facts(report["training"]),
        found_rules=found_rules,
        quiet_rules=quiet_rules,
        rows=[cut_row(row) for row in report["training_rows"]],
        charts=gate_charts(report["gates"], report["confidence"]),
        key=key_gate(report["gates"]),
        answers=compare_answers(report["answers"], list(report["metrics"])),
        links=mlflow_links(report),
        longest_seconds=max(times, default=0.0),
        seconds_text=seconds_text,
    )


def sort_rules(
    rules: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Put what a reader must see first.

    Args:
        rules: `RuleResult` as JSON.

    Returns:
        Rules that found something, failed ones first; and the others.
    """
    found = [rule for rule in rules if rule["verdict"] in VERDICTS_FIRST or rule["n_rows"]]
    order = {verdict: place for place, verdict in enumerate(VERDICTS_FIRST)}
    found.sort(key=lambda rule: (order.get(rule["verdict"], len(order)), -rule["n_rows"]))
    return found, [rule for rule in rules if rule not in found]


def training_facts(training: dict[str, Any]) -> dict[str, str]:
    """Put the figures of a training into words.

    Args:
        training: `TrainingFacts` as JSON.

    Returns:
        Title to text; what did not happen is left out.
    """
    batching = training["batching"]
    best_loss = training["best_validation_loss"]
    figures = {
        "device": training["device"],
        "steps": f"{training['n_steps']:,}",
        "tokens": f"{training['n_tokens_seen']:,}",
        "tokens per second": f"{training['tokens_per_second']:,.0f}",
        "seconds": f"{training['seconds']:,.1f}",
        "peak memory": f"{training['peak_memory_bytes'] / 2**20:,.0f} MiB",
        "trained parameters": f"{training['n_trainable_parameters']:,}",
        "batch": f"{batching['per_device']} sequences x {batching['accumulation']} accumulated "
        f"x {batching['processes']} processes",
        "loss": f"{training['first_loss']:.4f} → {training['last_loss']:.4f}",
    }
    if training["best_step"] is not None:
        figures["model is of step"] = f"{training['best_step']:,}"
    if best_loss is not None:
        figures["lowest validation loss"] = f"{best_loss:.4f}"
    if training["resumed_from_step"]:
        figures["resumed from step"] = f"{training['resumed_from_step']:,}"
    return figures


@dataclass(frozen=True)
class GateChart:
    """Where a gate's figures lie on its chart, in units of the picture."""

    gate: Mapping[str, Any]
    title: str
    text: str
    """What the picture shows, in words."""
    value: float
    """The gain; for an absolute gate the figure itself."""
    low_x: float
    high_x: float
    value_x: float
    limit_x: float
    zero_x: float | None
    """None where 0 does not lie on the chart."""


def gate_charts(gates: Sequence[Mapping[str, Any]], confidence: float) -> list[GateChart]:
    """Lay out a chart for every gate that has an interval.

    Args:
        gates: `GateResult` as JSON.
        confidence: Of the intervals.

    Returns:
        The charts, in the order of the gates.
    """
    return [_chart(gate, confidence) for gate in gates if _is_drawable(gate)]


def _is_drawable(gate: Mapping[str, Any]) -> bool:
    return gate["interval_low"] is not None and _value(gate) is not None


def _value(gate: Mapping[str, Any]) -> float | None:
    value: float | None = gate["challenger"] if gate["against"] == "absolute" else gate["gain"]
    return value


def _chart(gate: Mapping[str, Any], confidence: float) -> GateChart:
    value = float(_value(gate) or 0.0)
    low, high, limit = gate["interval_low"], gate["interval_high"], gate["limit"]
    is_gain = gate["against"] != "absolute"
    figures = [low, high, value, limit, *([0.0] if is_gain else [])]
    least, most = min(figures), max(figures)
    scale = (WIDTH - 2 * MARGIN) / ((most - least) or 1.0)

    def place(figure: float) -> float:
        return round(MARGIN + (figure - least) * scale, 1)

    what = f"gain over {gate['against']}" if is_gain else "figure"
    return GateChart(
        gate=gate,
        title=f"{gate['metric']}: {what}",
        text=f"{what} {value:+.4f}, {100 * confidence:.0f} % interval from {low:+.4f} to "
        f"{high:+.4f}, limit {limit:+.4f}; {gate['verdict']}.",
        value=value,
        low_x=place(low),
        high_x=place(high),
        value_x=place(value),
        limit_x=place(limit),
        zero_x=place(0.0) if is_gain else None,
    )


def key_gate(gates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Pick the gate whose figure stands beside the verdict.

    Args:
        gates: `GateResult` as JSON.

    Returns:
        Of those with an interval: a blocking one that failed, else a blocking one, against the
        champion before the base; None without any.
    """
    order = {"champion": 0, "base": 1}
    able = [gate for gate in gates if _is_drawable(gate)]
    return min(
        able,
        key=lambda gate: (
            gate["severity"] != "block",
            gate["verdict"] != "failed",
            order.get(gate["against"], 2),
        ),
        default=None,
    )
