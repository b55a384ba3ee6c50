"""All retrains of a registered name: what was judged, promoted, refused, and which rows were turned away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.base import Record
from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryError
from tasks.registry.rejections import Rejection, read_rejections
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import (
    CHAMPION_TAG,
    DECISION_TAG,
    DRIFT_TAG,
    EVAL_SHA256_TAG,
    EVALUATED_AT_TAG,
    METRIC_PREFIX,
    PROMOTED_AT_TAG,
    QUARANTINED_ROWS_TAG,
    REASON_TAG,
    TRAIN_ROWS_TAG,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MAX_VERSIONS = 500
"""Newest versions that are shown."""
PAGE_VERSIONS = 100


class Retrain(Record):
    """One version, as its tags tell it."""

    version: int
    judged_at: datetime
    decision: str
    """Of the gates: promote or refuse; the last one, should it have been judged again."""
    reason: str
    promoted_at: str
    """Empty where it never was champion."""
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
    """Losses compare only between versions judged on the same rows."""


class History(Record):
    """Everything known of a name."""

    name: str
    champion_version: int | None
    """Who holds the champion's alias now."""
    retrains: tuple[Retrain, ...]
    """Oldest first."""
    rejections: tuple[Rejection, ...]
    """Of this work directory, oldest first."""


def read_history(registry: RegistryConfig) -> History:
    """Read the versions of a name from the registry.

    Args:
        registry: Name and aliases.

    Returns:
        Its newest versions, and the rows refused in this work directory.

    Raises:
        RegistryError: Nothing was ever registered or refused under this name.
    """
    client, name = connect(), registry.name
    rejections = tuple(read_rejections(name))
    aliases = (registry.alias, registry.previous_alias, registry.challenger_alias)
    found: list[ModelVersion] = []
    with store_errors():
        token: str | None = None
        while len(found) < MAX_VERSIONS:
            page = client.search_model_versions(
                f"name = '{name}'",
                max_results=PAGE_VERSIONS,
                order_by=["version_number DESC"],
                page_token=token,
            )
            found.extend(page)
            token = page.token
            if not token:
                break
        holders = {alias: alias_holder(client, name, alias) for alias in aliases}
    if not found and not rejections:
        raise RegistryError(
            "nothing is registered under this name",
            where=f"models:/{name}",
            expected="a registered model",
            got="no version, and no refused rows in this work directory",
            fix="correct the name, or MLFLOW_TRACKING_URI",
        )
    retrains = tuple(describe_version(version, holders) for version in reversed(found))
    return History(
        name=name,
        champion_version=holders[registry.alias],
        retrains=retrains,
        rejections=rejections,
    )


def describe_version(version: ModelVersion, holders: dict[str, int | None]) -> Retrain:
    """Read what a version's tags tell.

    Args:
        version: From the registry.
        holders: Alias to the version that has it.

    Returns:
        Its line in the history.
    """
    tags, number = version.tags, int(version.version)
    judged_at = tags.get(EVALUATED_AT_TAG)
    return Retrain(
        version=number,
        judged_at=datetime.fromisoformat(judged_at)
        if judged_at
        else datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        decision=tags.get(DECISION_TAG, ""),
        reason=tags.get(REASON_TAG, ""),
        promoted_at=tags.get(PROMOTED_AT_TAG, ""),
        compared_with=tags.get(CHAMPION_TAG, ""),
        aliases=tuple(alias for alias, holder in holders.items() if holder == number),
        loss=_number(tags.get(f"{METRIC_PREFIX}challenger.loss")),
        champion_loss=_number(tags.get(f"{METRIC_PREFIX}champion.loss")),
        base_loss=_number(tags.get(f"{METRIC_PREFIX}base.loss")),
        n_train_rows=_count(tags.get(TRAIN_ROWS_TAG)),
        n_quarantined_rows=_count(tags.get(QUARANTINED_ROWS_TAG)),
        drift=_number(tags.get(DRIFT_TAG)),
        eval_sha256=tags.get(EVAL_SHA256_TAG, ""),
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _count(text: str | None) -> int | None:
    return None if text is None else int(text)
