"""Promote and roll back by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from schemas.base import Record
from schemas.config.registry import RegistryConfig
from schemas.errors import PromotionRefused, RegistryError
from schemas.records.decision import Decision
from tasks.registry.aliases import settle_aliases, settled_aliases
from tasks.registry.approvals import read_answer
from tasks.registry.lease import Lease
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import DECISION_TAG, REASON_TAG
from tasks.release.promotion import Guard, Request, make_champion, user_name

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
    registry: RegistryConfig,
    version: int | None,
    reason: str,
    *,
    is_forced: bool,
    person: str = "",
) -> HandPromotion:
    """Make a version champion at the request of a person.

    Args:
        registry: Name and aliases.
        version: The version; None takes the one with the challenger alias.
        reason: Recorded on the version.
        is_forced: Promote although the gates or a reviewer refused the version, or no gate ran.
        person: Who asks for it; empty takes the login name.

    Returns:
        What was done.
    """
    client = connect()
    with store_errors():
        settle_aliases(client, registry.name)
        if version is None:
            require_holder(client, registry, registry.challenger_alias)  # the name may not exist
        else:
            require_version(client, registry.name, version)
        with settled_aliases(client, registry.name) as lease:
            if version is None:
                version = require_holder(client, registry, registry.challenger_alias)

            def guard() -> None:
                """Raise unless the version was passed, or is forced with a reason."""
                problem = find_objection(require_version(client, registry.name, version).tags)
                _require_consent(registry, version, problem, reason, is_forced=is_forced)

            guard()
            problem = find_objection(require_version(client, registry.name, version).tags)
            who = person or user_name()
            request = Request(version, who, reason or "by hand", is_forced=bool(problem))
            return _make_champion(client, registry, lease, request, guard)


def _require_consent(
    registry: RegistryConfig, version: int, problem: str, reason: str, *, is_forced: bool
) -> None:
    where = f"models:/{registry.name}/{version}"
    if problem and not is_forced:
        raise PromotionRefused(
            "this version was not passed for promotion",
            where=where,
            expected=f"{DECISION_TAG}={Decision.PROMOTE.value}, and no reviewer who refused it",
            got=problem,
            fix="train a better model, or promote it with --force --reason '...'",
        )
    if is_forced and not reason.strip():
        raise RegistryError(
            "a forced promotion needs a reason",
            where=where,
            expected="a reason, which is recorded on the version",
            got="none",
            fix="give one: --reason '...', or the field reason of flow promote-model",
        )


def find_objection(tags: Mapping[str, str]) -> str:
    """Return why a version may be promoted only by force; empty if it was passed.

    Args:
        tags: Of the version.

    Returns:
        The reason of the gates or of the reviewer.
    """
    if tags.get(DECISION_TAG) != Decision.PROMOTE.value:
        return tags.get(REASON_TAG) or "no decision"
    answer = read_answer(tags)
    return answer.reason if answer and not answer.is_approved else ""


def roll_back(registry: RegistryConfig, reason: str, *, person: str = "") -> HandPromotion:
    """Make the previous champion champion again; the current one becomes the previous.

    Args:
        registry: Name and aliases.
        reason: Recorded on the version.
        person: Who asks for it; empty takes the login name.

    Returns:
        What was done.

    Raises:
        RegistryError: The previous version is champion already.
    """
    client = connect()
    with store_errors():
        settle_aliases(client, registry.name)
        require_holder(client, registry, registry.previous_alias)  # the name may not exist
        with settled_aliases(client, registry.name) as lease:
            previous = require_holder(client, registry, registry.previous_alias)
            if previous == alias_holder(client, registry.name, registry.alias):
                raise RegistryError(
                    "there is no other version to go back to",
                    where=f"models:/{registry.name}@{registry.previous_alias}",
                    expected="a version other than the champion",
                    got=f"version {previous}, which is {registry.alias}",
                    fix="give a version: sft-flow promote NAME VERSION",
                )
            why = reason or "rolled back by hand"
            request = Request(previous, person or user_name(), why, is_roll_back=True)
            return _make_champion(client, registry, lease, request, lambda: None)


def _make_champion(
    client: MlflowClient, registry: RegistryConfig, lease: Lease, request: Request, guard: Guard
) -> HandPromotion:
    """Move the aliases; a person may replace any champion."""
    former = make_champion(client, registry, lease, request, guard)
    return HandPromotion(
        name=registry.name,
        version=request.version,
        alias=registry.alias,
        former_version=former,
        reason=request.why,
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
