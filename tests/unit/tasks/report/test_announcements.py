"""Which event a report is worth, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks.report.announcements as announcement
from schemas.records.events import Happening
from tasks.report.announcements import (
    announce_rejection,
    rejected_state,
    report_payload,
    verdict_of,
)
from tests.support.prefect_events import CONFIG, REJECTED
from tests.support.reports import toy_report


@pytest.mark.parametrize(
    ("decision", "mode", "is_promoted", "happening"),
    [
        ("promote", "enforce", True, Happening.MODEL_PROMOTED),
        ("refuse", "enforce", False, Happening.MODEL_REFUSED),
        # A person said no.
        ("promote", "enforce", False, Happening.MODEL_REFUSED),
        ("refuse", "dry_run", False, None),
        ("skipped", "off", False, None),
    ],
)
def test_verdict_names_the_event(
    decision: str, mode: str, is_promoted: bool, happening: Happening | None
) -> None:
    report = toy_report(decision=decision, mode=mode)
    report["registry"]["is_promoted"] = is_promoted
    assert verdict_of(report) is happening


def test_report_payload_says_what_became_of_the_model_and_why(tmp_path: Path) -> None:
    payload = report_payload(toy_report(), tmp_path)
    assert payload == {
        "version": 1,
        "previous_version": None,
        "decision": "refuse",
        "outcome": "refused",
        "reason": "a tie",
        "metrics": toy_report()["metrics"],
        "retrain": None,
        "model_uri": None,
        "report": f"file://{tmp_path}/report.html",
    }


def test_rejected_state_is_failed_and_has_a_name_of_its_own() -> None:
    state = rejected_state(REJECTED)
    assert (state.type.value, state.name, state.message) == ("FAILED", "Rejected", REJECTED.what)
    assert state.data is REJECTED


def test_announcing_without_a_flow_run_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    sent: list[str] = []
    monkeypatch.setattr(announcement, "emit_event", lambda event, **_: sent.append(event))
    announce_rejection(CONFIG, REJECTED)
    assert sent == []
    assert list(tmp_path.iterdir()) == []
