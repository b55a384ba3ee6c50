"""The report of a run as a page: one HTML file without any outside resource."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.wording import (
    duration,
    interval,
    mebibytes,
    number,
    share,
    signed_interval,
    signed_number,
)
from tasks.report._answers import compare_answers
from tasks.report._artifacts import mlflow_links
from tasks.report._page_parts import PAGES, cut_row, render
from tasks.report.document import outcome
from tasks.training.loss_curve import describe_curve

PAGE = "report.html.jinja"
PAGE_FILES = tuple(
    PAGES / name
    for name in (
        PAGE,
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
"""Left and right of the outermost value, in units of the picture."""


def embed_curve(picture: Path, history: list[dict[str, Any]]) -> dict[str, str]:
    """Return the loss curve as `source`, a data address (RFC 2397), and in words as `text`.

    Args:
        picture: The SVG file that the training wrote.
        history: Log entries of the training.

    Returns:
        Both, for `render_page`.
    """
    # On its white card the curve keeps its light colours in dark mode too.
    svg = picture.read_bytes().replace(b"prefers-color-scheme: dark", b"not all")
    encoded = base64.b64encode(svg).decode("ascii")
    return {"source": f"data:image/svg+xml;base64,{encoded}", "text": describe_curve(history)}


def render_page(report: dict[str, Any], curve: dict[str, str]) -> str:
    """Render the page as HTML; everything from the data is escaped.

    Args:
        report: What `build_report` made.
        curve: What `embed_curve` made.

    Returns:
        One HTML file without any outside resource.
    """
    found_rules, quiet_rules = sort_rules(report["data"]["rules"])
    times = [entry["seconds"] or 0.0 for entry in report["timings"]["stages"]]
    return render(
        PAGE,
        report=report,
        outcome=outcome(report),
        curve=curve,
        facts=training_facts(report["training"]),
        found_rules=found_rules,
        quiet_rules=quiet_rules,
        rows=[cut_row(row) for row in report["training_rows"]],
        charts=gate_charts(report["gates"]),
        key=key_gate(report["gates"]),
        answers=compare_answers(report["answers"], list(report["metrics"])),
        links=mlflow_links(report),
        longest_seconds=max(times, default=0.0),
    )


def sort_rules(
    rules: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Split rules (`RuleResult` as JSON) into those that found something, failed first, and others."""
    found = [rule for rule in rules if rule["verdict"] in VERDICTS_FIRST or rule["n_rows"]]
    order = {verdict: place for place, verdict in enumerate(VERDICTS_FIRST)}
    found.sort(key=lambda rule: (order.get(rule["verdict"], len(order)), -rule["n_rows"]))
    return found, [rule for rule in rules if rule not in found]


def training_facts(training: dict[str, Any]) -> dict[str, str]:
    """Format `TrainingFacts` (as JSON), title to text; what did not happen is left out."""
    batching = training["batching"]
    best_loss = training["best_validation_loss"]
    facts = {
        "device": training["device"],
        "steps": number(training["n_steps"]),
        "tokens": number(training["n_tokens_seen"]),
        "tokens per second": f"{training['tokens_per_second']:,.0f}",
        "time": duration(training["seconds"]),
        "peak memory": mebibytes(training["peak_memory_bytes"]),
        "trained parameters": number(training["n_trainable_parameters"]),
        "batch": f"{batching['per_device']} sequences x {batching['accumulation']} accumulated "
        f"x {batching['processes']} processes",
        "loss": f"{number(training['first_loss'])} → {number(training['last_loss'])}",
    }
    if training["best_step"] is not None:
        facts["model is of step"] = number(training["best_step"])
    if best_loss is not None:
        facts["lowest validation loss"] = number(best_loss)
    if training["resumed_from_step"]:
        facts["resumed from step"] = number(training["resumed_from_step"])
    return facts


@dataclass(frozen=True)
class GateChart:
    """A gate's values as text, and where they are on its chart, in units of the picture."""

    gate: Mapping[str, Any]
    title: str
    text: str
    """What the picture shows, in words."""
    value: str
    """The gain; for an absolute gate the challenger's metric."""
    interval: str
    level: str
    """Of the interval."""
    limit: str
    low_x: float
    high_x: float
    value_x: float
    limit_x: float
    zero_x: float | None
    """None where 0 is not on the chart."""


def gate_charts(gates: Sequence[Mapping[str, Any]]) -> list[GateChart]:
    """Draw a chart for every gate (`GateResult` as JSON) that has an interval, in their order."""
    return [_chart(gate) for gate in gates if _is_drawable(gate)]


def _is_drawable(gate: Mapping[str, Any]) -> bool:
    return gate["interval_low"] is not None and _value(gate) is not None


def _value(gate: Mapping[str, Any]) -> float | None:
    value: float | None = gate["challenger"] if gate["against"] == "absolute" else gate["gain"]
    return value


def _chart(gate: Mapping[str, Any]) -> GateChart:
    value = float(_value(gate) or 0.0)
    low, high, limit = gate["interval_low"], gate["interval_high"], gate["limit"]
    is_gain = gate["against"] != "absolute"
    values = [low, high, value, limit, *([0.0] if is_gain else [])]
    least, most = min(values), max(values)
    scale = (WIDTH - 2 * MARGIN) / ((most - least) or 1.0)

    def place(at: float) -> float:
        return round(MARGIN + (at - least) * scale, 1)

    level = share(gate["confidence"])
    what = f"gain over {gate['against']}" if is_gain else "value"
    one, both = (signed_number, signed_interval) if is_gain else (number, interval)
    return GateChart(
        gate=gate,
        title=f"{gate['metric']}: {what}",
        text=f"{what} {one(value)}, {level} interval {both(low, high)}, "
        f"limit {one(limit)}; {gate['verdict']}.",
        value=one(value),
        interval=both(low, high),
        level=level,
        limit=one(limit),
        low_x=place(low),
        high_x=place(high),
        value_x=place(value),
        limit_x=place(limit),
        zero_x=place(0.0) if is_gain else None,
    )


def key_gate(gates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Pick the gate (`GateResult` as JSON) whose value is shown next to the verdict.

    Args:
        gates: All gates of the decision.

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
