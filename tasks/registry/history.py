"""All retrains of a registered name: evaluated, promoted and refused versions, and rejected data."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from schemas.base import Record
from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryError
from tasks.registry import tags as tag
from tasks.registry.aliases import read_holders, settle_aliases
from tasks.registry.rejections import Rejection, read_rejections
from tasks.registry.store import connect, store_errors
from tasks.registry.versions import search_versions

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MAX_VERSIONS = 500
"""Newest versions that are read."""
Number = TypeVar("Number", int, float)


class Retrain(Record):
    """One version, as described by its tags."""

    version: int
    judged_at: datetime
    decision: str
    """promote or refuse; the last one if it was evaluated several times."""
    reason: str
    promoted_at: str
    """Empty if it never was champion."""
    compared_with: str
    """Version number of the champion then, or none."""
    aliases: tuple[str, ...] = ()
    loss: float | None
    """Held-out loss in nats per token."""
    champion_loss: float | None
    base_loss: float | None
    n_train_rows: int | None
    n_quarantined_rows: int | None
    drift: float | None
    """Population stability index against the champion's rows."""
    eval_sha256: str
    """Losses compare only between versions evaluated on the same rows."""


class History(Record):
    """All retrains of a name."""

    name: str
    champion_version: int | None
    """Version with the champion alias now."""
    retrains: tuple[Retrain, ...]
    """Oldest first."""
    rejections: tuple[Rejection, ...]
    """Of this work directory, oldest first."""


def read_history(registry: RegistryConfig) -> History:
    """Read the newest versions of a name, and the data rejected in this work directory.

    Args:
        registry: Name and aliases.

    Returns:
        The history.

    Raises:
        RegistryError: Nothing was registered or rejected under this name.
    """
    client, name = connect(), registry.name
    rejections = tuple(read_rejections(name))
    aliases = (registry.alias, registry.previous_alias, registry.challenger_alias)
    with store_errors():
        settle_aliases(client, name)
        found = list(itertools.islice(search_versions(client, name), MAX_VERSIONS))
        holders = read_holders(client, name, aliases)
    if not found and not rejections:
        raise RegistryError(
            "nothing is registered under this name",
            where=f"models:/{name}",
            expected="a registered model",
            got="no version, and no rejected rows in this work directory",
            fix="correct the name, or MLFLOW_TRACKING_URI",
        )
    return History(
        name=name,
        champion_version=holders[registry.alias],
        retrains=tuple(describe_version(version, holders) for version in reversed(found)),
        rejections=rejections,
    )


def describe_version(version: ModelVersion, holders: dict[str, int | None]) -> Retrain:
    """Read the tags of a version; `holders` maps each alias to its version."""
    tags, number = version.tags, int(version.version)

    def read(kind: type[Number], name: str) -> Number | None:
        return kind(tags[name]) if name in tags else None

    judged_at = tags.get(tag.EVALUATED_AT_TAG)
    return Retrain(
        version=number,
        judged_at=datetime.fromisoformat(judged_at)
        if judged_at
        else datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        decision=tags.get(tag.DECISION_TAG, ""),
        reason=tags.get(tag.REASON_TAG, ""),
        promoted_at=tags.get(tag.PROMOTED_AT_TAG, ""),
        compared_with=tags.get(tag.CHAMPION_TAG, ""),
        aliases=tuple(alias for alias, holder in holders.items() if holder == number),
        loss=read(float, f"{tag.METRIC_PREFIX}challenger.loss"),
        champion_loss=read(float, f"{tag.METRIC_PREFIX}champion.loss"),
        base_loss=read(float, f"{tag.METRIC_PREFIX}base.loss"),
        n_train_rows=read(int, tag.TRAIN_ROWS_TAG),
        n_quarantined_rows=read(int, tag.QUARANTINED_ROWS_TAG),
        drift=read(float, tag.DRIFT_TAG),
        eval_sha256=tags.get(tag.EVAL_SHA256_TAG, ""),
    )
