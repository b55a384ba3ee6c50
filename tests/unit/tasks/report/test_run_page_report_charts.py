"""Where a gate's figures lie on its chart."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.report.run_page import gate_charts, key_gate

pytestmark = pytest.mark.unit


def gate(**changes: Any) -> dict[str, Any]:
    return {
        "id": "loss_below_base",
        "metric": "loss",
        "against": "base",
        "opponent": 3.0,
        "challenger": 2.5,
        "gain": 0.5,
        "interval_low": 0.25,
        "interval_high": 1.0,
        "limit": 0.0,
        "severity": "block",
        "verdict": "passed",
        "reason": "r",
        **changes,
    }


def test_gate_charts_place_figures_between_the_margins() -> None:
    [chart] = gate_charts([gate()], 0.95)
    # 0 lies at 24 and 1 at 560 - 24
    assert (chart.zero_x, chart.limit_x, chart.low_x) == (24.0, 24.0, 152.0)
    assert (chart.value_x, chart.high_x) == (280.0, 536.0)
    assert chart.text == (
        "gain over base +0.5000, 95 % interval from +0.2500 to +1.0000, limit +0.0000; passed."
    )


def test_gate_charts_show_the_figure_of_an_absolute_gate() -> None:
    absolute = gate(against="absolute", gain=None, opponent=None, challenger=0.75, limit=0.5)
    [chart] = gate_charts([absolute], 0.9)
    assert (chart.value, chart.zero_x) == (0.75, None)
    assert chart.title == "loss: figure"


def test_gate_charts_leave_out_gates_without_interval() -> None:
    assert gate_charts([gate(interval_low=None, interval_high=None)], 0.95) == []


def test_key_gate_is_what_the_verdict_rests_on() -> None:
    base, champion = gate(), gate(against="champion")
    failed, warned = gate(verdict="failed"), gate(verdict="failed", severity="warn")
    assert key_gate([base, champion, warned]) is champion
    assert key_gate([champion, failed]) is failed
    assert key_gate([]) is None
