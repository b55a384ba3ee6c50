"""Stage `promote_model`: move the aliases if the decision is to promote."""

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
    """Check on a cache hit that a version has the alias; return what is wrong, else an empty text.

    Another version may have it by now, from a later promotion or a roll-back, which a run that
    changed nothing must not undo.
    """
    if not reference.is_promoted:
        return ""
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
) -> Promoted:
    """Make the version champion if the one it was compared with still is."""
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
    """Make the version champion if it may be; otherwise it is only the challenger.

    Args:
        output: Gets `promotion.json`.
        version: The registered version.
        decision: Of the gates.
        registry: Aliases, prompts of the reload check, refused versions that keep their weights.
        approval: Answer of the reviewer, if one was asked.

    Returns:
        Whether and why it is champion, the previous champion, and the freed bytes.
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
