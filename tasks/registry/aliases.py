"""Move the aliases of a registered model, all together or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from schemas.errors import AliasesUnsettled
from tasks.registry.store import alias_holder
from tasks.registry.tags import JOURNAL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

Holders = dict[str, int | None]


def move_aliases(client: MlflowClient, name: str, moves: Mapping[str, int | None]) -> Holders:
    """Move aliases in one transaction; call it within `promotion_lease`.

    The previous holders are written to a tag first. When a later step fails or is interrupted,
    every alias is restored; when the process is killed, the next promotion restores them.

    Args:
        client: The store.
        name: Registered model name.
        moves: Alias to its version, or None to delete it; in the order they are made.

    Returns:
        The version that had each alias before.
    """
    restore_interrupted(client, name)
    former = read_holders(client, name, moves)
    client.set_registered_model_tag(name, JOURNAL_TAG, json.dumps(former))
    try:
        for alias, version in moves.items():
            _assign(client, name, alias, version)
        client.delete_registered_model_tag(name, JOURNAL_TAG)
    except BaseException:
        _put_back(client, name, former)
        raise
    return former


def restore_interrupted(client: MlflowClient, name: str) -> Holders:
    """Restore the aliases of a transaction whose process was killed.

    Args:
        client: The store.
        name: Registered model name.

    Returns:
        What was restored; empty if no transaction was interrupted.
    """
    text = client.get_registered_model(name).tags.get(JOURNAL_TAG)
    if not text:
        return {}
    former: Holders = json.loads(text)
    _put_back(client, name, former)
    return former


def read_holders(client: MlflowClient, name: str, aliases: Iterable[str]) -> Holders:
    """Return the version of each alias, None for an alias that no version has."""
    return {alias: alias_holder(client, name, alias) for alias in aliases}


def _assign(client: MlflowClient, name: str, alias: str, version: int | None) -> None:
    if alias_holder(client, name, alias) == version:
        return
    if version is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, str(version))


def _put_back(client: MlflowClient, name: str, former: Holders) -> None:
    """Undo in reverse order; the journal goes last, so that a later run finds a failure here."""
    try:
        for alias, version in reversed(former.items()):
            _assign(client, name, alias, version)
        client.delete_registered_model_tag(name, JOURNAL_TAG)
    except Exception as error:
        expected = ", ".join(
            f"{alias} on {'no version' if version is None else f'version {version}'}"
            for alias, version in former.items()
        )
        raise AliasesUnsettled(
            "the store failed while aliases were moved, and not all could be restored",
            where=f"models:/{name}",
            expected=expected,
            got=f"{type(error).__name__}: {error}",
            fix="promote again: the next promotion restores them first",
        ) from error
