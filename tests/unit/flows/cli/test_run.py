"""What a run, a refusal and a check look like in the terminal."""

from __future__ import annotations

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
            "reason": "it fell",
        }
    ],
    "mode": "enforce",
    "confidence": 0.95,
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
        "n_freed_bytes": 0,
        "tracking_uri": "sqlite:////tmp/mlflow.db",
    },
}


def test_show_report_has_figures_answers_decision_and_pages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.show_report(REPORT, Path("report.html"))
    text = capsys.readouterr().out
    assert "loss    2.500  2.250" in text
    assert "rouge   -      -" in text
    assert text.count("What?") == 3
    assert (
        "Training: 1,200 steps on cpu, 1 min 35 s, 150 tokens/s; resumed from step 20; "
        "the batch was halved\n"
    ) in text
    assert "Decision: PROMOTE - loss fell by 0.2" in text
    assert "passed  loss_below_base  +0.250  [0.100, 0.400]" in text
    assert "faq version 2 is champion (before: version 1), models:/faq@champion" in text
    assert "prefect server start" in text
    assert "mlflow ui --backend-store-uri sqlite:////tmp/mlflow.db" in text


def test_show_decision_says_who_stays_after_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    registry = {**REPORT["registry"], "is_promoted": False}
    show.show_decision({**REPORT, "decision": "refuse", "registry": registry})
    assert "version 2 is registered, version 1 stays champion" in capsys.readouterr().out


def test_mlflow_command_of_a_server_is_its_address() -> None:
    assert show.mlflow_command("http://host:5000") == "MLflow is at http://host:5000"


def test_shorten_cuts_at_400_characters() -> None:
    assert len(show.shorten("x" * 401)) == 400
    assert show.shorten(" x\n") == "x"


def test_show_decision_says_that_nothing_was_registered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry = {**REPORT["registry"], "is_promoted": False, "version": None}
    show.show_decision({**REPORT, "decision": "skipped", "mode": "off", "registry": registry})
    assert "Model: not registered" in capsys.readouterr().out


def test_show_decision_names_freed_space(capsys: pytest.CaptureFixture[str]) -> None:
    registry = {**REPORT["registry"], "n_freed_bytes": 3 * 2**20}
    show.show_decision({**REPORT, "mode": "dry_run", "registry": registry})
    text = capsys.readouterr().out
    assert "PROMOTE (dry run)" in text
    assert "Freed: 3.0 MiB" in text
