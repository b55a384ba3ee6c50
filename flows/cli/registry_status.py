"""`sft-flow status NAME`: the version of each alias, with metrics, age and data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.cli.console import echo, print_json, print_table
from schemas.base import Record
from schemas.config.registry import RegistryConfig
from schemas.errors import AliasesUnsettled, RegistryBusy, RegistryError, RegistryForbidden
from tasks.engine.wording import age, number
from tasks.registry.aliases import read_holders, settle_aliases
from tasks.registry.store import connect, store_errors
from tasks.registry.tags import (
    DATASET_TAG,
    DECISION_TAG,
    METRIC_PREFIX,
    PROMOTED_AT_TAG,
    PROMOTED_BY_TAG,
    PROMOTION_REASON_TAG,
    REASON_TAG,
    TRAIN_ROWS_TAG,
    WEIGHTS_TAG,
)
from tasks.release.by_hand import what_there_is

if TYPE_CHECKING:
    from mlflow import MlflowClient


class VersionStatus(Record):
    """What is shown of one version."""

    version: int
    aliases: tuple[str, ...]
    decision: str
    reason: str
    loss: float | None
    """Held-out loss in nats per token."""
    base_loss: float | None
    created_at: datetime
    train_rows: str
    dataset_sha256: str
    promoted_by: str
    promoted_at: str
    promotion_reason: str
    weights: str
    """kept, or deleted by retention."""


class RegistryStatus(Record):
    """Everything that `sft-flow status NAME` shows."""

    name: str
    n_versions: int
    holders: dict[str, int | None]
    """champion, challenger and previous to their versions."""
    versions: tuple[VersionStatus, ...]
    """Those that have an alias, in the order of `holders`."""
    problem: str = ""
    """Why aliases of an interrupted promotion could not be restored; else empty."""


def read_registry_status(registry: RegistryConfig) -> RegistryStatus:
    """Read one name from the registry.

    Args:
        registry: Name and aliases.

    Returns:
        Its aliases and the versions that have them.

    Raises:
        RegistryError: There is no such name.
    """
    client, name = connect(), registry.name
    with store_errors():
        versions = client.search_model_versions(f"name = '{name}'")
        if not versions:
            raise RegistryError(
                "nothing is registered under this name",
                where=f"models:/{name}",
                expected="a registered model",
                got=what_there_is(client, name),
                fix="correct the name, or MLFLOW_TRACKING_URI",
            )
        problem = _settle(client, name)
        aliases = (registry.alias, registry.challenger_alias, registry.previous_alias)
        holders = read_holders(client, name, aliases)
        numbers = dict.fromkeys(number for number in holders.values() if number is not None)
        return RegistryStatus(
            name=name,
            n_versions=len(versions),
            holders=holders,
            versions=tuple(_read_version(client, name, number) for number in numbers),
            problem=problem,
        )


def _settle(client: MlflowClient, name: str) -> str:
    """Restore the aliases of an interrupted promotion; return why it was not possible."""
    try:
        settle_aliases(client, name)
    except (AliasesUnsettled, RegistryBusy, RegistryForbidden) as error:
        return str(error)
    return ""


def _read_version(client: MlflowClient, name: str, number: int) -> VersionStatus:
    found = client.get_model_version(name, str(number))
    tags: dict[str, str] = found.tags
    return VersionStatus(
        version=number,
        aliases=tuple(sorted(found.aliases)),
        decision=tags.get(DECISION_TAG, ""),
        reason=tags.get(REASON_TAG, ""),
        loss=_number(tags.get(f"{METRIC_PREFIX}challenger.loss")),
        base_loss=_number(tags.get(f"{METRIC_PREFIX}base.loss")),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        train_rows=tags.get(TRAIN_ROWS_TAG, ""),
        dataset_sha256=tags.get(DATASET_TAG, ""),
        promoted_by=tags.get(PROMOTED_BY_TAG, ""),
        promoted_at=tags.get(PROMOTED_AT_TAG, ""),
        promotion_reason=tags.get(PROMOTION_REASON_TAG, ""),
        weights=tags.get(WEIGHTS_TAG, "kept"),
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def show_registry_status(status: RegistryStatus, *, is_json: bool) -> None:
    """Print the version of each alias, as a table or as one JSON document."""
    if is_json:
        print_json(status.model_dump(mode="json"))
        return
    by_number = {version.version: version for version in status.versions}
    rows = [_row(alias, by_number.get(number or 0)) for alias, number in status.holders.items()]
    headings = ["alias", "version", "loss", "base", "decision", "age", "rows", "data", "promoted"]
    print_table(headings, rows, title=f"{status.name}: {status.n_versions} versions")
    if status.problem:
        echo(status.problem)


def _row(alias: str, version: VersionStatus | None) -> list[str]:
    if version is None:
        return [alias, "none", *[""] * 7]
    by = f"{version.promoted_at[:10]} by {version.promoted_by}" if version.promoted_by else ""
    return [
        alias,
        str(version.version),
        number(version.loss),
        number(version.base_loss),
        version.decision,
        age(datetime.now(UTC) - version.created_at),
        version.train_rows,
        version.dataset_sha256[:8],
        by,
    ]
