"""A person's word before a promotion, asked on a real Prefect server and answered from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_runs import resume_flow_run
from prefect.runtime import flow_run as current_run

from flows import _approval
from flows._approval import ask_for_approval, read_answer
from schemas.config.gates import DecisionMode
from schemas.config.registry import RegistryConfig
from schemas.records.decision import Decision, DecisionReport
from schemas.records.references import Approval, DecisionReference, VersionReference

PLACE: dict[str, Any] = {"stage": "x", "folder": "stages/x/y", "sha256": "0" * 64}
DEADLINE_SECONDS = 60.0
VERSION = VersionReference(
    **PLACE,
    name="toy",
    version=2,
    run_id="r",
    experiment_id="1",
    model_uri="models:/toy/2",
    tracking_uri="sqlite://",
)


def decided(decision: Decision) -> DecisionReference:
    report = DecisionReport(
        mode=DecisionMode.ENFORCE,
        decision=decision,
        reason="loss_below_base: 0.5 better",
        confidence=0.95,
        eval_sha256="e",
        n_eval_rows=24,
        champion_version=1,
        gates=(),
    )
    return DecisionReference(**PLACE, report=report)


def registry(timeout_seconds: int, *, is_required: bool = True) -> RegistryConfig:
    approval = {"is_required": is_required, "timeout_seconds": timeout_seconds}
    return RegistryConfig.model_validate({"name": "toy", "approval": approval})


@pytest.fixture(autouse=True)
def no_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_approval, "POLL_SECONDS", 1)
    monkeypatch.setattr(_approval, "connect", lambda: None)
    monkeypatch.setattr(_approval, "alias_holder", lambda *_: 1)


def run_and_answer(
    settings: RegistryConfig, answer: dict[str, Any] | None
) -> tuple[Approval | None, str]:
    """Run a flow that asks; a second thread answers as soon as the run is paused."""
    run_id: list[UUID] = []

    @flow
    def asking() -> Approval | None:
        run_id.append(UUID(str(current_run.id)))
        return ask_for_approval(settings, VERSION, decided(Decision.PROMOTE))

    def reply() -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(run_id[0]) if run_id else None
            if run and run.state and run.state.is_paused():
                time.sleep(0.5)  # the form is saved right after the state
                resume_flow_run(run_id[0], run_input=answer)
                return
            time.sleep(0.2)

    thread = threading.Thread(target=reply)
    if answer is not None:
        thread.start()
    found = asking()
    if answer is not None:
        thread.join(DEADLINE_SECONDS)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id[0]).state
    return found, str(state.name) if state else ""


@pytest.mark.parametrize(
    ("is_approved", "reason"),
    [(True, "approved by Ana: fine"), (False, "refused by Ana: fine")],
)
def test_answer_of_a_person_is_taken(prefect_server: None, is_approved: bool, reason: str) -> None:
    form = {"is_approved": is_approved, "reviewer": "Ana", "comment": "fine"}
    found, state = run_and_answer(registry(60), form)
    assert found == Approval(is_approved=is_approved, reviewer="Ana", reason=reason)
    assert state == "Completed"


def test_no_answer_in_time_refuses_and_the_run_completes(prefect_server: None) -> None:
    found, state = run_and_answer(registry(2), None)
    assert found == Approval(is_approved=False, reason="no answer within 2 s")
    assert state == "Completed"


@pytest.mark.parametrize(
    ("settings", "decision"),
    [
        (registry(1, is_required=False), Decision.PROMOTE),
        (registry(1), Decision.REFUSE),
    ],
)
def test_nobody_is_asked_without_need(settings: RegistryConfig, decision: Decision) -> None:
    assert ask_for_approval(settings, VERSION, decided(decision)) is None


def test_champion_is_not_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_approval, "alias_holder", lambda *_: 2)
    assert ask_for_approval(registry(1), VERSION, decided(Decision.PROMOTE)) is None


def test_answer_without_a_name_still_has_a_reason() -> None:
    make: Callable[..., Any] = _approval.PromotionForm
    assert read_answer(make(is_approved=False)).reason == "refused by a person"
