"""Versions of a few bytes, and a writer that promotes, rolls back and prunes them at random.

What a version is to the registry is its tags, its aliases and its files. `python -m
tests.support.histories NAME EXPERIMENT SEED` is a writer that works until it is killed.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.gates import DecisionMode
from schemas.config.registry import RegistryConfig
from schemas.errors import ChampionChanged, RegistryBusy, RegistryError
from schemas.records.decision import Decision, DecisionReport
from schemas.records.references import DecisionReference
from tasks import promote_model as stage
from tasks.registry import lease
from tasks.registry.champion import find_opponent
from tasks.registry.store import connect, store_errors
from tasks.registry.tags import (
    CHAMPION_TAG,
    DECISION_SHA256_TAG,
    DECISION_TAG,
    FINGERPRINT_TAG,
    MODE_TAG,
    MODEL_TAG,
)
from tasks.release import promotion
from tasks.release.by_hand import roll_back
from tasks.release.retention import prune_unpromoted

if TYPE_CHECKING:
    from tasks.registry.champion import Opponent

PROMOTED = "promoted"
READY = "ready"


def add_version(
    registry: RegistryConfig,
    experiment: str,
    model: str,
    opponent: Opponent | None,
    *,
    is_better: bool,
    mode: str = "enforce",
) -> tuple[int, DecisionReference]:
    """Register a logged model of a few bytes with the tags of a decision.

    Args:
        registry: The name.
        experiment: Of the logged model.
        model: Its sha256, as the tag has it.
        opponent: The version it was compared with.
        is_better: The decision is to promote.
        mode: Of the gates.

    Returns:
        The version and the decision.
    """
    client = connect()
    logged = client.create_logged_model(experiment)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLmodel").write_text(model)
        client.log_model_artifacts(logged.model_id, folder)
    decision = Decision.PROMOTE if is_better else Decision.REFUSE
    against = opponent.version if opponent else None
    report = DecisionReport(
        mode=DecisionMode(mode),
        decision=decision,
        reason=f"{decision} over {against}",
        confidence=0.95,
        eval_sha256="e",
        n_eval_rows=20,
        champion_version=against,
        gates=(),
    )
    sha256 = f"{logged.model_id:0>64}"
    tags = {
        FINGERPRINT_TAG: logged.model_id,
        MODEL_TAG: model,
        DECISION_TAG: decision.value,
        DECISION_SHA256_TAG: sha256,
        CHAMPION_TAG: "none" if against is None else str(against),
        MODE_TAG: mode,
    }
    made = client.create_model_version(
        registry.name, f"models:/{logged.model_id}", tags=tags, model_id=logged.model_id
    )
    reference = DecisionReference(stage="decide", folder="x", sha256=sha256, report=report)
    return int(made.version), reference


def work(name: str, experiment: str, seed: int) -> None:
    """Evaluate, promote, roll back and prune at random until the process is killed."""
    choose = random.Random(seed)
    setattr(promotion, "check_reload", lambda *_: None)  # noqa: B010 - not exported
    lease.LEASE_SECONDS, lease.RENEW_SECONDS = 3.0, 0.5
    registry = RegistryConfig(name=name, keep_rejected=1)
    print(READY, flush=True)  # noqa: T201
    while True:
        with contextlib.suppress(ChampionChanged, RegistryBusy, RegistryError), store_errors():
            act(registry, experiment, choose)


def act(registry: RegistryConfig, experiment: str, choose: random.Random) -> None:
    """Make one random step; a completed promotion is a line on standard output."""
    kind = choose.random()
    if kind < 0.7:
        model = f"{choose.getrandbits(64):x}"
        opponent = find_opponent(registry, model)
        version, decision = add_version(
            registry, experiment, model, opponent, is_better=choose.random() < 0.7
        )
        client = connect()
        if stage.refusal(decision, None):
            pass
        elif stage.promote(client, registry, version, decision, None).is_promoted:
            print(PROMOTED, version, flush=True)  # noqa: T201
        client.set_registered_model_alias(registry.name, registry.challenger_alias, str(version))
    elif kind < 0.85:
        roll_back(registry, "worse in use")
    else:
        prune_unpromoted(connect(), registry, lambda *_: None)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
