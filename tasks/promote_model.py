"""Stage `promote_model`: move the champion alias, if and only if the decision says so."""

from __future__ import annotations

import json
from typing import Any

from prefect.logging import get_run_logger

from schemas.records import Decision, DecisionReference, PromotionReference, VersionReference
from tasks._cache import OutputFolder
from tasks._registry import alias_holder, connect, store_errors
from tasks._stage import stage_task


def verify_alias(reference: PromotionReference) -> str:
    """Check on a hit that somebody holds the alias.

    Another version may hold it by now: a later run's promotion or a person's roll-back, which
    a run that changed nothing must not undo.

    Args:
        reference: The promotion.

    Returns:
        What is wrong; empty when nothing is, or when nothing was promoted.
    """
    if reference.decision is Decision.REFUSE:
        return ""
    holder = alias_holder(connect(), reference.name, reference.alias)
    return f"alias {reference.alias} was deleted" if holder is None else ""


@stage_task(timeout_seconds=600, libraries=("mlflow",), verify=verify_alias)
def promote_model(
    output: OutputFolder, version: VersionReference, decision: DecisionReference, alias: str
) -> PromotionReference:
    """Give the version the alias when it passed every gate; otherwise leave the alias alone.

    Args:
        output: Gets `promotion.json`.
        version: The registered version.
        decision: What was decided of it.
        alias: The alias, e.g. champion.

    Returns:
        Who holds the alias now and who held it before.
    """
    client = connect()
    with store_errors():
        holder = alias_holder(client, version.name, alias)
        if decision.decision is Decision.PROMOTE:
            client.set_registered_model_alias(version.name, alias, str(version.version))
            get_run_logger().info("%s version %d is now %s", version.name, version.version, alias)
        else:
            get_run_logger().warning("not promoted: %s", decision.reason)
    previous = None if holder == version.version else holder
    facts: dict[str, Any] = {"name": version.name, "version": version.version, "alias": alias}
    text = json.dumps({**facts, "decision": decision.decision.value, "previous": previous})
    (output.path / "promotion.json").write_text(text, encoding="utf-8")
    return output.commit(
        PromotionReference, decision=decision.decision, previous_version=previous, **facts
    )
