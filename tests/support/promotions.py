"""Runs the promoting stage without a flow; `python -m tests.support.promotions` reads its arguments as JSON."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from schemas.config.registry import RegistryConfig
from schemas.errors import ChampionChanged
from schemas.records.references import (
    Approval,
    DecisionReference,
    PromotionReference,
    VersionReference,
)


def promote(
    version: VersionReference,
    decision: DecisionReference,
    registry: RegistryConfig,
    approval: Approval | None = None,
) -> PromotionReference:
    """Run the stage once, without looking into the cache first.

    Args:
        version: What was registered.
        decision: What was decided.
        registry: Name and aliases.
        approval: What a person said.

    Returns:
        The stage's record.
    """
    from prefect.logging import disable_run_logger

    from tasks.engine.cache import OutputFolder
    from tasks.engine.keys import stage_key
    from tasks.promote_model import promote_model

    arguments: dict[str, Any] = {
        "version": version,
        "decision": decision,
        "registry": registry,
        "approval": approval,
    }
    output = OutputFolder(stage_key(promote_model.definition, arguments))
    try:
        with disable_run_logger():
            return inspect.unwrap(promote_model.fn)(output, **arguments)  # type: ignore[no-any-return]
    except BaseException:
        output.abandon()
        raise


def main() -> None:
    """Say promoted or overtaken, as two processes at once each find out."""
    asked = json.load(sys.stdin)
    try:
        promote(
            VersionReference.model_validate(asked["version"]),
            DecisionReference.model_validate(asked["decision"]),
            RegistryConfig.model_validate(asked["registry"]),
        )
    except ChampionChanged as error:
        sys.stdout.write(f"overtaken by {error.got}")
    else:
        sys.stdout.write("promoted")


if __name__ == "__main__":
    main()
