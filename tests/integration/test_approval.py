"""A person's word before a promotion, asked on a real Prefect server and answered from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_runs import resume_flow_run
from prefect.runtime import flow_run as current_run

from flows import _approval
from flows._approval import approval_of, ask_for_approval
from schemas.config.gates import DecisionMode
from schemas.config.registry import RegistryConfig
from schemas.errors import PromotionRefused
from schemas.records.decision import Decision, DecisionReport
from schemas.records.references import Approval, DecisionReference, VersionReference
from tasks.registry.approvals import note_answer, read_answer
from tasks.registry.store import connect
from tasks.registry.tags import DECISION_SHA256_TAG, PROMOTED_DECISION_TAG
from tasks.release.by_hand import promote_by_hand

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
def client(mlflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store where version 1 is champion, and version 2 has a decision."""
    monkeypatch.setattr(_approval, "POLL_SECONDS", 1)
    client = connect()
    client.create_registered_model("toy")
    for _ in range(2):
        tags = {DECISION_SHA256_TAG: PLACE["sha256"]}
        client.create_model_version("toy", (mlflow_home / "model").as_uri(), tags=tags)
    client.set_registered_model_alias("toy", "champion", "1")
    return client


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
def test_answer_of_a_person_is_taken_and_recorded(
    prefect_server: None, client: Any, is_approved: bool, reason: str
) -> None:
    form = {"is_approved": is_approved, "reviewer": "Ana", "comment": "fine"}
    found, state = run_and_answer(registry(60), form)
    assert found == Approval(is_approved=is_approved, reviewer="Ana", reason=reason)
    assert state == "Completed"
    assert read_answer(client.get_model_version("toy", "2").tags) == found


def test_no_answer_in_time_refuses_and_the_run_completes(prefect_server: None, client: Any) -> None:
    found, state = run_and_answer(registry(2), None)
    assert found == Approval(is_approved=False, reason="no answer within 2 s")
    assert state == "Completed"
    client.set_model_version_tag("toy", "2", "sft.decision", "promote")
    with pytest.raises(PromotionRefused, match="no answer within 2 s"):
        promote_by_hand(RegistryConfig(name="toy"), 2, "", is_forced=False)


@pytest.mark.parametrize(
    ("settings", "decision"),
    [
        (registry(1, is_required=False), Decision.PROMOTE),
        (registry(1), Decision.REFUSE),
    ],
)
def test_nobody_is_asked_without_need(settings: RegistryConfig, decision: Decision) -> None:
    assert ask_for_approval(settings, VERSION, decided(decision)) is None


def test_champion_is_not_asked_about_again(client: Any) -> None:
    client.set_registered_model_alias("toy", "champion", "2")
    assert ask_for_approval(registry(1), VERSION, decided(Decision.PROMOTE)) is None


def test_decision_that_was_carried_out_is_not_asked_about_after_a_roll_back(client: Any) -> None:
    client.set_model_version_tag("toy", "2", PROMOTED_DECISION_TAG, PLACE["sha256"])
    assert ask_for_approval(registry(1), VERSION, decided(Decision.PROMOTE)) is None


@pytest.mark.parametrize("is_approved", [True, False])
def test_recorded_answer_is_not_asked_for_again(client: Any, is_approved: bool) -> None:
    answer = Approval(is_approved=is_approved, reviewer="Ana", reason="x" * 9000)
    note_answer(client, "toy", 2, answer, PLACE["sha256"])
    found = ask_for_approval(registry(1), VERSION, decided(Decision.PROMOTE))
    assert found is not None
    assert (found.is_approved, found.reviewer, len(found.reason)) == (is_approved, "Ana", 1000)
    client.set_model_version_tag("toy", "2", DECISION_SHA256_TAG, "another")
    assert read_answer(client.get_model_version("toy", "2").tags) is None


def test_answer_without_a_name_still_has_a_reason() -> None:
    make: Callable[..., Any] = _approval.PromotionForm
    assert approval_of(make(is_approved=False)).reason == "refused by a person"
