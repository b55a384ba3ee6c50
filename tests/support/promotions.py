"""Runs the promoting stage without a flow; `python -m tests.support.promotions` reads its arguments as JSON."""

from __future__ import annotations

import inspect
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.config.registry import RegistryConfig
from schemas.errors import ChampionChanged
from schemas.records.decision import Decision
from schemas.records.references import (
    Approval,
    DecisionReference,
    Evidence,
    PromotionReference,
    VersionReference,
)
from tasks.registry.aliases import read_holders
from tasks.registry.store import connect
from tests.support.evidence import decide_again

ALIASES = ("champion", "challenger", "previous")


@dataclass
class Candidates:
    """Two evaluated models, registered as versions 1 and 2; neither is champion."""

    home: Path
    evidence: tuple[Evidence, Evidence]
    versions: tuple[VersionReference, VersionReference]


def holders() -> dict[str, int | None]:
    """Return the version of each alias."""
    return read_holders(connect(), "toy", ALIASES)


def decided(candidates: Candidates, place: int, against: int | None) -> Evidence:
    """Decide again that a candidate is better, than a version or the base."""
    home = Path(os.environ["SFT_HOME"])
    return decide_again(candidates.evidence[place], home, Decision.PROMOTE, against)


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
