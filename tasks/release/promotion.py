"""Make a version champion: after a check, under a lease, and with all aliases moved together."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.config.registry import RegistryConfig
from schemas.errors import ChampionChanged, ReloadMismatch
from tasks.registry.aliases import move_aliases
from tasks.registry.champion import find_opponent
from tasks.registry.lease import Lease
from tasks.registry.lineage import shorten
from tasks.registry.store import alias_holder
from tasks.registry.tags import (
    FORCED_TAG,
    MODEL_TAG,
    PROMOTED_AT_TAG,
    PROMOTED_BY_TAG,
    PROMOTED_DECISION_TAG,
    PROMOTED_OVER_TAG,
    PROMOTION_REASON_TAG,
    ROLLED_BACK_TAG,
    WEIGHTS_TAG,
)
from tasks.release.reload.check import check_reload

if TYPE_CHECKING:
    from mlflow import MlflowClient

Guard = Callable[[], None]
"""Called before any alias moves, and again right before; raises if none may move."""
NO_VERSION = "none"


@dataclass(frozen=True)
class Request:
    """A promotion to make."""

    version: int
    who: str
    """Name of a person or of the flow."""
    why: str
    decision_sha256: str = ""
    """Of the decision that is carried out; empty for a promotion by hand."""
    is_forced: bool = False
    """A person promotes what the gates or a reviewer refused."""
    is_roll_back: bool = False
    """The champion is replaced because it is worse, so that no run may promote it again."""


def expect_opponent(registry: RegistryConfig, model_sha256: str, expected: int | None) -> Guard:
    """Return a guard that raises `ChampionChanged` unless the model still has to beat the same version.

    Args:
        registry: Name and aliases.
        model_sha256: Of the model to promote.
        expected: The version it was compared with; None if only with the base.

    Returns:
        The guard.
    """

    def guard() -> None:
        """Raise ChampionChanged unless the opponent is the expected version."""
        opponent = find_opponent(registry, model_sha256)
        version = opponent.version if opponent else None
        if version != expected:
            raise ChampionChanged(
                "another promotion came first",
                where=f"models:/{registry.name}",
                expected=_shown(expected),
                got=_shown(version),
                fix="none needed: the run compares with the new champion and decides again",
            )

    return guard


def _shown(version: int | None) -> str:
    return "no champion" if version is None else f"version {version} as champion"


def make_champion(
    client: MlflowClient, registry: RegistryConfig, lease: Lease, request: Request, guard: Guard
) -> int | None:
    """Move the champion alias to a version, and the alias `previous` to the champion before it.

    The files in the registry are compared with what was evaluated before any alias moves. That may
    take an hour; so the lease, the weights and the champion are checked again after it.

    Args:
        client: The store.
        registry: Name and aliases.
        lease: Of the name, from `settled_aliases`.
        request: The version, who promotes it and why.
        guard: Checks whether it may be promoted over the current champion.

    Returns:
        The champion before; None if there was none, or if the version is champion already.

    Raises:
        ChampionChanged: The alias moved while the files were checked.
    """
    name, version = registry.name, request.version
    holder = alias_holder(client, name, registry.alias)
    if holder == version:
        return None
    guard()
    check_reload(name, version, registry.n_reload_prompts)
    lease.require()
    _require_weights(client, name, version)
    guard()
    if alias_holder(client, name, registry.alias) != holder:
        raise ChampionChanged(
            "the champion changed while the files of the version were checked",
            where=f"models:/{name}",
            expected=_shown(holder),
            got=_shown(alias_holder(client, name, registry.alias)),
            fix="none needed in a run, which decides again; else look at sft-flow status and repeat",
        )
    moves: dict[str, int | None] = {registry.alias: version}
    tags = {version: promotion_tags(request, holder)}
    if holder is not None and not _is_same_model(client, name, holder, version):
        moves = {registry.previous_alias: holder, **moves}  # else `previous` is the only way back
    if holder is not None and request.is_roll_back:
        tags[holder] = {ROLLED_BACK_TAG: f"{tags[version][PROMOTED_AT_TAG]} by {request.who}"}
    move_aliases(client, name, moves, tags, lease)
    return holder


def _is_same_model(client: MlflowClient, name: str, *versions: int) -> bool:
    found = {client.get_model_version(name, str(one)).tags.get(MODEL_TAG) for one in versions}
    return len(found) == 1 and None not in found


def find_roll_back(client: MlflowClient, name: str, model_sha256: str) -> str:
    """Return when and by whom a model was rolled back, if no person promoted it since; else empty.

    Args:
        client: The store.
        name: Registered model name.
        model_sha256: Of the model, which may have several versions.

    Returns:
        The text of the tag.
    """
    versions = client.search_model_versions(
        f"name = '{name}' and tags.`{MODEL_TAG}` = '{model_sha256}'"
    )
    rolled_back, promoted = (
        max((version.tags.get(tag, "") for version in versions), default="")
        for tag in (ROLLED_BACK_TAG, PROMOTED_AT_TAG)
    )
    return rolled_back if rolled_back[: len(promoted)] >= promoted else ""


def _require_weights(client: MlflowClient, name: str, version: int) -> None:
    tags = client.get_model_version(name, str(version)).tags
    if WEIGHTS_TAG in tags:
        raise ReloadMismatch(
            "the weights of the version were deleted while its files were checked",
            where=f"models:/{name}/{version}",
            expected="a version with its weights",
            got=f"{WEIGHTS_TAG}={tags[WEIGHTS_TAG]}",
            fix="register it again: run the training with --refresh register_model",
        )


def promotion_tags(request: Request, holder: int | None) -> dict[str, str]:
    """Return the tags that record who promoted a version, when, why and over which champion."""
    return {
        PROMOTED_BY_TAG: request.who,
        PROMOTED_AT_TAG: datetime.now(UTC).isoformat(timespec="milliseconds"),
        PROMOTION_REASON_TAG: shorten(request.why),
        PROMOTED_OVER_TAG: NO_VERSION if holder is None else str(holder),
        PROMOTED_DECISION_TAG: request.decision_sha256,
        FORCED_TAG: str(request.is_forced).lower(),
    }


def promoted_over(tags: dict[str, str]) -> int | None:
    """Return the champion before a promoted version, from its tags; None if there was none."""
    text = tags.get(PROMOTED_OVER_TAG, NO_VERSION)
    return int(text) if text.isdigit() else None


def user_name() -> str:
    """Return the login name; unknown if the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
