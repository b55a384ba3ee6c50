"""What a run, a refusal and a check look like in the terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import flows.cli.run as show

REPORT: dict[str, Any] = {
    "decision": "promote",
    "reason": "loss fell by 0.2",
    "gates": [
        {
            "verdict": "passed",
            "id": "loss_below_base",
            "gain": 0.25,
            "interval_low": 0.1,
            "interval_high": 0.4,
            "confidence": 0.95,
            "reason": "it fell",
        },
        {
            "verdict": "skipped",
            "id": "loss_below_champion",
            "gain": None,
            "interval_low": None,
            "interval_high": None,
            "confidence": None,
            "reason": "none yet",
        },
    ],
    "mode": "enforce",
    "confidence": 0.975,
    "metrics": {"base": {"loss": 2.5, "n": 3}, "challenger": {"loss": 2.25, "rouge": None}},
    "answers": [{"prompt": "What?", "reference": "A.", "base": "B.", "challenger": "C."}] * 5,
    "training": {
        "n_steps": 1200,
        "device": "cpu",
        "seconds": 95.0,
        "tokens_per_second": 150.4,
        "resumed_from_step": 20,
        "notes": ["the batch was halved"],
    },
    "registry": {
        "name": "faq",
        "version": 2,
        "alias": "champion",
        "is_promoted": True,
        "previous_version": 1,
        "tracking_uri": "sqlite:////tmp/mlflow.db",
    },
}


def test_show_report_has_figures_answers_decision_and_pages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.show_report(REPORT, Path("report.html"), None)
    text = capsys.readouterr().out
    assert "loss    2.500  2.250" in text
    assert "rouge   -      -" in text
    assert text.count("What?") == 3
    assert (
        "Training: 1,200 steps on cpu, 1 min 35 s, 150 tokens/s; resumed from step 20; "
        "the batch was halved\n"
    ) in text
    assert "Decision: PROMOTE - loss fell by 0.2" in text
    assert re.search(r"passed +loss_below_base +\+0.250 +\[0.100, 0.400\] +95 % +it fell", text)
    assert re.search(r"skipped  loss_below_champion +- +- +- +none yet", text)
    assert "faq version 2 is champion (before: version 1), models:/faq@champion" in text
    assert "sft-flow up       then http://127.0.0.1:4200" in text
    assert "mlflow ui --backend-store-uri sqlite:////tmp/mlflow.db" in text


def test_show_decision_names_the_champion_after_a_refusal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry = {**REPORT["registry"], "is_promoted": False}
    show.show_decision({**REPORT, "decision": "refuse", "registry": registry}, None)
    assert "version 2 is registered, version 1 is champion" in capsys.readouterr().out


def test_mlflow_command_of_a_server_is_its_address() -> None:
    assert show.mlflow_command("http://host:5000") == "MLflow is at http://host:5000"


def test_shorten_cuts_at_400_characters() -> None:
    assert len(show.shorten("x" * 401)) == 400
    assert show.shorten(" x\n") == "x"


def test_show_decision_says_that_nothing_was_registered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry = {**REPORT["registry"], "is_promoted": False, "version": None}
    show.show_decision({**REPORT, "decision": "skipped", "mode": "off", "registry": registry}, None)
    assert "Model: not registered" in capsys.readouterr().out


def test_show_decision_of_a_cached_report_names_the_champion_of_now(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.show_decision(REPORT, 2)
    assert "Model: faq version 2 is champion" in capsys.readouterr().out
    show.show_decision(REPORT, 1)
    assert "version 2 was promoted; version 1 is champion now" in capsys.readouterr().out
