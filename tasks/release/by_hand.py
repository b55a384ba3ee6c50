"""Promote and roll back by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.base import Record
from schemas.config.registry import RegistryConfig
from schemas.errors import PromotionRefused, RegistryError
from schemas.records.decision import Decision
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import DECISION_TAG, REASON_TAG
from tasks.release.promotion import Request, make_champion, user_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


class HandPromotion(Record):
    """Result of a promotion or a roll-back by hand."""

    name: str
    version: int
    alias: str
    former_version: int | None
    """Previous champion; None if there was none, or if the version was champion already."""
    reason: str


def promote_by_hand(
    registry: RegistryConfig, version: int | None, reason: str, *, is_forced: bool
) -> HandPromotion:
    """Make a version champion at the request of a person.

    Args:
        registry: Name and aliases.
        version: The version; None takes the one with the challenger alias.
        reason: Recorded on the version.
        is_forced: Promote although the gates refused or never evaluated the version.

    Returns:
        What was done.

    Raises:
        PromotionRefused: The gates did not pass the version, and it was not forced.
    """
    client = connect()
    with store_errors():
        if version is None:
            version = require_holder(client, registry, registry.challenger_alias)
        found = require_version(client, registry.name, version)
        decision = found.tags.get(DECISION_TAG)
        if decision != Decision.PROMOTE.value and not is_forced:
            raise PromotionRefused(
                "the gates did not pass this version",
                where=f"models:/{registry.name}/{version}",
                expected=f"{DECISION_TAG}={Decision.PROMOTE.value}",
                got=found.tags.get(REASON_TAG) or "no decision",
                fix="train a better model, or promote it with --force --reason '...'",
            )
        return _make_champion(client, registry, version, reason or "by hand")


def roll_back(registry: RegistryConfig, reason: str) -> HandPromotion:
    """Make the previous champion champion again; the current one becomes the previous."""
    client = connect()
    with store_errors():
        previous = require_holder(client, registry, registry.previous_alias)
        return _make_champion(client, registry, previous, reason or "rolled back by hand")


def _make_champion(
    client: MlflowClient, registry: RegistryConfig, version: int, reason: str
) -> HandPromotion:
    # A person may replace any champion, so nothing is checked before the move.
    request = Request(version, user_name(), reason)
    promoted = make_champion(client, registry, request, lambda _: None)
    return HandPromotion(
        name=registry.name,
        version=version,
        alias=registry.alias,
        former_version=promoted.former,
        reason=reason,
    )


def require_holder(client: MlflowClient, registry: RegistryConfig, alias: str) -> int:
    """Find the version with an alias.

    Args:
        client: The store.
        registry: Name and aliases.
        alias: The alias.

    Returns:
        The version.

    Raises:
        RegistryError: No version has it; the message lists the versions.
    """
    holder = alias_holder(client, registry.name, alias)
    if holder is None:
        raise RegistryError(
            f'no version has the alias "{alias}"',
            where=f"models:/{registry.name}@{alias}",
            expected="a version with this alias",
            got=what_there_is(client, registry.name),
            fix="give a version: sft-flow promote NAME VERSION",
        )
    return holder


def require_version(client: MlflowClient, name: str, version: int) -> ModelVersion:
    """Find a version.

    Args:
        client: The store.
        name: Registered model name.
        version: Its number.

    Returns:
        The version.

    Raises:
        RegistryError: It does not exist; the message lists the versions.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RegistryError(
            "the registry has no such version",
            where=f"models:/{name}/{version}",
            expected="a registered version",
            got=what_there_is(client, name),
            fix="give one of these, or correct MLFLOW_TRACKING_URI",
        ) from error


def what_there_is(client: MlflowClient, name: str) -> str:
    """List up to ten versions of a name, or the names if there is no such name."""
    versions = client.search_model_versions(f"name = '{name}'")
    if versions:
        numbers = sorted((int(version.version) for version in versions), reverse=True)[:10]
        return f"versions {', '.join(map(str, numbers))}"
    names = [model.name for model in client.search_registered_models(max_results=10)]
    return f"models {', '.join(sorted(names))}" if names else "an empty registry"
