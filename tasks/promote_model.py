"""Stage `promote_model`: move the aliases, if and only if the decision says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.release.promotion import Promoted, Request, expect_champion, make_champion
from tasks.release.retention import prune_refused

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLOW = "train-sft"


def verify_alias(reference: PromotionReference) -> str:
    """Check on a hit that somebody holds the alias.

    Another version may hold it by now: a later run's promotion or a person's roll-back, which
    a run that changed nothing must not undo.

    Args:
        reference: The promotion.

    Returns:
        What is wrong; empty when nothing is, or when nothing was promoted.
    """
    if not reference.is_promoted:
        return ""
    holder = alias_holder(connect(), reference.name, reference.alias)
    return f"alias {reference.alias} was deleted" if holder is None else ""


def refusal(decision: DecisionReference, approval: Approval | None) -> str:
    """Say why nothing moves.

    Args:
        decision: What the gates decided.
        approval: What a person said, where one was asked.

    Returns:
        The reason; empty when the version becomes champion.
    """
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
) -> Promoted:
    """Make the version champion while the one it was compared with still is.

    Args:
        client: The store.
        registry: Name and aliases.
        version: The version.
        decision: Names the champion it was compared with.
        approval: Names the person who approved, where one was asked.

    Returns:
        Who is champion now, and who was.
    """
    guard = expect_champion(registry.name, decision.report.champion_version)
    who = (approval.reviewer or "a person") if approval else FLOW
    request = Request(version, who, decision.reason, is_challenger=True)
    return make_champion(client, registry, request, guard)


@stage_task(timeout_seconds=2 * 3600, libraries=("mlflow",), verify=verify_alias)
def promote_model(
    output: OutputFolder,
    version: VersionReference,
    decision: DecisionReference,
    registry: RegistryConfig,
    approval: Approval | None = None,
) -> PromotionReference:
    """Make the version champion when it may be; otherwise it is the challenger, and no more.

    Args:
        output: Gets `promotion.json`.
        version: The registered version.
        decision: What was decided of it.
        registry: Aliases, prompts of the reload check, weights kept of refused versions.
        approval: What a person said, where one was asked.

    Returns:
        Whether it is champion now, why, who was before, and what room was freed.
    """
    client, name = connect(), version.name
    with store_errors():
        reason = refusal(decision, approval)
        if reason:
            former = alias_holder(client, name, registry.alias)
            client.set_registered_model_alias(name, registry.challenger_alias, str(version.version))
            get_run_logger().warning("not promoted: %s", reason)
        else:
            promoted = promote(client, registry, version.version, decision, approval)
            former = promoted.former
            get_run_logger().info("%s version %d is now %s", name, version.version, registry.alias)
        pruned = prune_refused(client, registry, name)
    facts: dict[str, Any] = {
        "is_promoted": not reason,
        "reason": reason or decision.reason,
        "name": name,
        "version": version.version,
        "alias": registry.alias,
        "previous_version": None if former == version.version else former,
        "n_freed_bytes": pruned.freed_bytes,
    }
    (output.path / "promotion.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return output.commit(PromotionReference, **facts)
