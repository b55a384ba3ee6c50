"""A person's word before a model becomes champion, asked through Prefect."""

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
from tasks.engine.stage import PLAN
from tasks.registry.store import alias_holder, connect, store_errors

POLL_SECONDS = 10


class PromotionForm(RunInput):
    """What the person fills in."""

    is_approved: bool
    """Yes makes the version champion."""
    reviewer: str = ""
    """Who answers; kept with the version."""
    comment: str = ""
    """Why; kept with the report of a refusal."""


def ask_for_approval(
    registry: RegistryConfig, version: VersionReference, decision: DecisionReference
) -> Approval | None:
    """Pause the flow until a person answers, where the configuration asks for it.

    The process waits: a suspended run, whose process ends, would fail at the time-out, where
    no answer in time shall be a refusal.

    Args:
        registry: Whether and how long to ask.
        version: What would be promoted.
        decision: What the gates decided.

    Returns:
        The answer; None where nobody is asked: it is not required, the gates refused, or the
        version is champion already.
    """
    approval = registry.approval
    if not approval.is_required or not decision.is_promotion or PLAN.get() is not None:
        return None
    client = connect()
    with store_errors():
        if alias_holder(client, version.name, registry.alias) == version.version:
            return None
    text = question(registry, version, decision)
    get_run_logger().warning("%s Answer on this run's page in Prefect.", text)
    form = PromotionForm.with_initial_data(description=text, is_approved=False)
    try:
        answer = pause_flow_run(
            wait_for_input=form,
            timeout=approval.timeout_seconds,
            poll_interval=min(POLL_SECONDS, approval.timeout_seconds),
            # A key of its own: an answer to an earlier question says nothing of this decision.
            key=f"approval-{version.version}-{uuid.uuid4().hex[:8]}",
        )
    except FlowPauseTimeout:
        _go_on()
        reason = f"no answer within {approval.timeout_seconds} s"
        return Approval(is_approved=False, reason=reason)
    return read_answer(answer)


def _go_on() -> None:
    """Take the run out of its pause: the server would let it end in nothing but a failure."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(context.flow_run.id, Running(), force=True)


def question(
    registry: RegistryConfig, version: VersionReference, decision: DecisionReference
) -> str:
    """Say what the person decides about.

    Args:
        registry: Names the alias.
        version: What would be promoted.
        decision: The gates' figures.

    Returns:
        Markdown in a few sentences.
    """
    report = decision.report
    opponent = f"champion version {report.champion_version}" if report.champion_version else "base"
    return (
        f"Make {version.name} version {version.version} {registry.alias}? "
        f"The gates passed it against the {opponent} on {report.n_eval_rows} rows: "
        f"{report.reason}."
    )


def read_answer(answer: PromotionForm) -> Approval:
    """Turn the form into a record.

    Args:
        answer: What the person filled in.

    Returns:
        The answer with a reason that can stand in a report.
    """
    who = answer.reviewer or "a person"
    word = "approved" if answer.is_approved else "refused"
    comment = f": {answer.comment}" if answer.comment else ""
    return Approval(
        is_approved=answer.is_approved, reviewer=answer.reviewer, reason=f"{word} by {who}{comment}"
    )
