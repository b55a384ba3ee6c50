"""Promoting and rolling back by hand: what is asked for, and what must hold before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.base import Record
from schemas.config.registry import RegistryConfig
from schemas.errors import PromotionRefused, RegistryError
from schemas.records.decision import Decision
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import DECISION_TAG, REASON_TAG
from tasks.release.promotion import Guard, Request, make_champion, user_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


class HandPromotion(Record):
    """What a promotion or a roll-back by hand did."""

    name: str
    version: int
    alias: str
    former_version: int | None
    """Champion before; None when nobody was, or when the version was champion already."""
    reason: str


def promote_by_hand(
    registry: RegistryConfig, version: int | None, reason: str, *, is_forced: bool
) -> HandPromotion:
    """Make a version champion because a person says so.

    Args:
        registry: Name and aliases.
        version: The version; None takes the holder of the challenger's alias.
        reason: Kept with the version.
        is_forced: Promote although the gates refused the version or never saw it.

    Returns:
        What was done.

    Raises:
        RegistryError: There is no such name or version.
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
                got=found.tags.get(REASON_TAG) or "no decision: no gate saw it",
                fix="train a better model, or insist with --force --reason '...'",
            )
        return _make_champion(client, registry, version, reason or "by hand")


def roll_back(registry: RegistryConfig, reason: str) -> HandPromotion:
    """Make the former champion champion again; the present one becomes the former.

    Args:
        registry: Name and aliases.
        reason: Kept with the version.

    Returns:
        What was done.

    Raises:
        RegistryError: There is no such name, or no former champion.
    """
    client = connect()
    with store_errors():
        previous = require_holder(client, registry, registry.previous_alias)
        return _make_champion(client, registry, previous, reason or "rolled back by hand")


def _make_champion(
    client: MlflowClient, registry: RegistryConfig, version: int, reason: str
) -> HandPromotion:
    request = Request(version, user_name(), reason)
    promoted = make_champion(client, registry, request, _anyone)
    return HandPromotion(
        name=registry.name,
        version=version,
        alias=registry.alias,
        former_version=promoted.former,
        reason=reason,
    )


_anyone: Guard = lambda _: None  # noqa: E731 - a person may take the place of any champion


def require_holder(client: MlflowClient, registry: RegistryConfig, alias: str) -> int:
    """Find who holds an alias that must be held.

    Args:
        client: The store.
        registry: Name and aliases.
        alias: The alias.

    Returns:
        The version.

    Raises:
        RegistryError: Nobody holds it; the message lists what there is.
    """
    holder = alias_holder(client, registry.name, alias)
    if holder is None:
        raise RegistryError(
            f"nobody is {alias}",
            where=f"models:/{registry.name}@{alias}",
            expected="a version with this alias",
            got=what_there_is(client, registry.name),
            fix="name a version: sft-flow promote NAME VERSION",
        )
    return holder


def require_version(client: MlflowClient, name: str, version: int) -> ModelVersion:
    """Find a version that must be there.

    Args:
        client: The store.
        name: Registered model name.
        version: Its number.

    Returns:
        The version.

    Raises:
        RegistryError: There is none; the message lists what there is.
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
            fix="name one of these, or correct MLFLOW_TRACKING_URI",
        ) from error


def what_there_is(client: MlflowClient, name: str) -> str:
    """List a name's versions, or the names when there is no such name.

    Args:
        client: The store.
        name: Registered model name.

    Returns:
        Up to ten of them in words.
    """
    versions = client.search_model_versions(f"name = '{name}'")
    if versions:
        numbers = sorted((int(version.version) for version in versions), reverse=True)[:10]
        return f"versions {', '.join(map(str, numbers))}"
    names = [model.name for model in client.search_registered_models(max_results=10)]
    return f"models {', '.join(sorted(names))}" if names else "an empty registry"
