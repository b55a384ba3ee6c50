"""Stage `promote_model`: move the aliases if the decision is to promote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect.logging import get_run_logger

from schemas.config.gates import DecisionMode
from schemas.config.registry import RegistryConfig
from schemas.records.references import (
    Approval,
    DecisionReference,
    PromotionReference,
    VersionReference,
)
from tasks.engine.cache import OutputFolder
from tasks.engine.stage import stage_task
from tasks.registry.aliases import settled_aliases
from tasks.registry.champion import Opponent, find_holder, has_files
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import MODEL_TAG, PROMOTED_AT_TAG, PROMOTED_DECISION_TAG
from tasks.release.promotion import (
    Request,
    expect_opponent,
    find_roll_back,
    make_champion,
    promoted_over,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLOW = "train-sft"


class Outcome(NamedTuple):
    """Whether the version is the champion, and why not."""

    is_promoted: bool
    reason: str
    former: int | None
    """Champion before, or the present one where the version is none."""


def verify_alias(reference: PromotionReference) -> str:
    """Check on a cache hit that a version has the alias; return what is wrong, else an empty text.

    Another version may have it by now, from a later promotion or a roll-back, which a run that
    changed nothing must not undo.
    """
    if not reference.is_promoted:
        return ""
    with store_errors():
        holder = alias_holder(connect(), reference.name, reference.alias)
    return f"alias {reference.alias} was deleted" if holder is None else ""


def refusal(decision: DecisionReference, approval: Approval | None) -> str:
    """Return why no alias moves; empty if the version becomes champion."""
    if decision.is_promotion:
        return "" if approval is None or approval.is_approved else approval.reason
    if decision.report.mode is DecisionMode.DRY_RUN:
        return f"dry run, would {decision.decision}: {decision.reason}"
    return decision.reason


def promote(
    client: MlflowClient,
    registry: RegistryConfig,
    version: int,
    decision: DecisionReference,
    approval: Approval | None,
) -> Outcome:
    """Make the version champion if the one it was compared with still is; never twice by one decision.

    Args:
        client: The store.
        registry: Name and aliases.
        version: The version.
        decision: The decision to carry out.
        approval: Answer of the reviewer, if one was asked.

    Returns:
        What became of it.
    """
    name = registry.name
    tags = client.get_model_version(name, str(version)).tags
    who = (approval.reviewer or "a person") if approval else FLOW
    request = Request(version, who, decision.reason, decision.sha256)
    guard = expect_opponent(registry, tags.get(MODEL_TAG, ""), decision.report.champion_version)
    with settled_aliases(client, name) as lease:
        tags = client.get_model_version(name, str(version)).tags
        champion = find_holder(client, name, registry.alias)
        if champion and champion.version == version:
            return Outcome(True, decision.reason, promoted_over(tags))
        if champion and (reason := _why_it_stays(client, champion, tags, request)):
            return Outcome(False, reason, champion.version)
        former = make_champion(client, registry, lease, request, guard)
    return Outcome(True, decision.reason, former)


def _why_it_stays(
    client: MlflowClient, champion: Opponent, tags: Mapping[str, str], request: Request
) -> str:
    """Return why the champion stays although the decision is to promote; empty if it does not."""
    name, sha256 = champion.name, tags.get(MODEL_TAG, "")
    if champion.is_model(sha256) and has_files(client, champion):
        return f"version {champion.version}, which is champion, is this very model"
    if tags.get(PROMOTED_DECISION_TAG) == request.decision_sha256:
        when = tags[PROMOTED_AT_TAG]
        return f"this decision promoted it at {when}; version {champion.version} followed it"
    is_asked = request.who != FLOW  # a person approved this decision
    if not is_asked and (rolled_back := find_roll_back(client, name, sha256)):
        return f"this model was rolled back at {rolled_back}; promote it by hand if it is wanted"
    return ""


@stage_task(timeout_seconds=2 * 3600, libraries=("mlflow",), verify=verify_alias)
def promote_model(
    output: OutputFolder,
    version: VersionReference,
    decision: DecisionReference,
    registry: RegistryConfig,
    approval: Approval | None = None,
) -> PromotionReference:
    """Make the version champion if it may be.

    Args:
        output: Gets `promotion.json`.
        version: The registered version.
        decision: Of the gates.
        registry: Aliases, and prompts of the reload check.
        approval: Answer of the reviewer, if one was asked.

    Returns:
        Whether and why it is champion, and the previous champion.
    """
    client, name = connect(), version.name
    with store_errors():
        reason = refusal(decision, approval)
        if reason:
            holder = alias_holder(client, name, registry.alias)
            former = None if holder == version.version else holder
            outcome = Outcome(False, reason, former)
        else:
            outcome = promote(client, registry, version.version, decision, approval)
    if outcome.is_promoted:
        get_run_logger().info("%s version %d is now %s", name, version.version, registry.alias)
    else:
        get_run_logger().warning("not promoted: %s", outcome.reason)
    facts: dict[str, Any] = {
        "is_promoted": outcome.is_promoted,
        "reason": outcome.reason,
        "name": name,
        "version": version.version,
        "alias": registry.alias,
        "previous_version": outcome.former,
    }
    (output.path / "promotion.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return output.commit(PromotionReference, **facts)
