"""Approval by a person, in Prefect, before a model becomes champion."""

from __future__ import annotations

import uuid

from prefect import pause_flow_run
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.states import Running

from schemas.config.registry import RegistryConfig
from schemas.records.references import Approval, DecisionReference, VersionReference
from schemas.records.stages import Stage
from tasks.engine.stage import PLAN, is_refreshed
from tasks.registry.approvals import note_answer, read_answer
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import PROMOTED_DECISION_TAG

POLL_SECONDS = 10


class PromotionForm(RunInput):
    """Form that the reviewer fills in."""

    is_approved: bool
    """True makes the version champion."""
    reviewer: str = ""
    """Name of the reviewer; recorded on the version."""
    comment: str = ""
    """Reason; shown in the report of a refusal."""


def ask_for_approval(
    registry: RegistryConfig, version: VersionReference, decision: DecisionReference
) -> Approval | None:
    """Pause the flow until a person answers, if the configuration requires approval.

    The process keeps running: a suspended run, whose process ends, would fail at the time-out,
    but no answer in time has to be a refusal. The answer is recorded on the version; a repeated run
    does not ask about the same decision again, unless stage promote_model is refreshed.

    Args:
        registry: Whether to ask, and the time-out.
        version: Version to promote.
        decision: Decision of the gates.

    Returns:
        The answer; None if no approval is needed: it is not required, the gates refused, or the
        version is or was champion by this decision.
    """
    if not registry.approval.is_required or not decision.is_promotion or PLAN.get() is not None:
        return None
    client, number = connect(), version.version
    with store_errors():
        if alias_holder(client, version.name, registry.alias) == number:
            return None
        tags = client.get_model_version(version.name, str(number)).tags
    if tags.get(PROMOTED_DECISION_TAG) == decision.sha256:
        return None  # it was carried out before; a roll-back since then is not undone
    known = read_answer(tags, decision.sha256)
    if known and not is_refreshed(Stage.PROMOTE_MODEL):
        return known
    answer = _ask(registry, version, decision)
    with store_errors():
        note_answer(client, version.name, number, answer, decision.sha256)
    return answer


def _ask(
    registry: RegistryConfig, version: VersionReference, decision: DecisionReference
) -> Approval:
    """Pause the flow until a person answers or the time is over."""
    approval = registry.approval
    text = question(registry, version, decision)
    get_run_logger().warning("%s Answer on this run's page in Prefect.", text)
    form = PromotionForm.with_initial_data(description=text, is_approved=False)
    try:
        answer = pause_flow_run(
            wait_for_input=form,
            timeout=approval.timeout_seconds,
            poll_interval=min(POLL_SECONDS, approval.timeout_seconds),
            # A new key each time: an answer to an earlier question is not about this decision.
            key=f"approval-{version.version}-{uuid.uuid4().hex[:8]}",
        )
    except FlowPauseTimeout:
        _resume()
        reason = f"no answer within {approval.timeout_seconds} s"
        return Approval(is_approved=False, reason=reason)
    return approval_of(answer)


def _resume() -> None:
    """Set the run to Running: from Paused, the server accepts no other end than a failure."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(context.flow_run.id, Running(), force=True)


def question(
    registry: RegistryConfig, version: VersionReference, decision: DecisionReference
) -> str:
    """Format the question to the reviewer as Markdown."""
    report = decision.report
    opponent = f"champion version {report.champion_version}" if report.champion_version else "base"
    return (
        f"Make {version.name} version {version.version} {registry.alias}? "
        f"It passed the gates against the {opponent} on {report.n_eval_rows} rows: "
        f"{report.reason}."
    )


def approval_of(answer: PromotionForm) -> Approval:
    """Convert the form to a record whose reason can be shown in a report."""
    who = answer.reviewer or "a person"
    word = "approved" if answer.is_approved else "refused"
    comment = f": {answer.comment}" if answer.comment else ""
    return Approval(
        is_approved=answer.is_approved, reviewer=answer.reviewer, reason=f"{word} by {who}{comment}"
    )
