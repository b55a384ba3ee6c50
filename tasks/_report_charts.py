"""The charts of the report's page: each gate's gain as a dot with its interval and limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 560.0
MARGIN = 24.0
"""Room beside the outermost figure, in units of the picture."""


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
