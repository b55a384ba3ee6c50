"""Aliases of a registered model, moved together or not at all."""

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
    """Give aliases to versions as one transaction.

    The former holders are written to a tag first. When a later step fails or is interrupted,
    every alias is put back; when the process is killed, the next promotion puts them back. Call
    it while `promotion_lease` is held.

    Args:
        client: The store.
        name: Registered model name.
        moves: Alias to its version, or None to take it away; in the order they are made.

    Returns:
        Who held each of them before.

    Raises:
        AliasesUnsettled: A step failed, and so did putting back.
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
    """Put back the aliases of a transaction whose process was killed.

    Args:
        client: The store.
        name: Registered model name.

    Returns:
        What was put back; empty when no transaction was cut short.
    """
    text = client.get_registered_model(name).tags.get(JOURNAL_TAG)
    if not text:
        return {}
    former: Holders = json.loads(text)
    _put_back(client, name, former)
    return former


def read_holders(client: MlflowClient, name: str, aliases: Iterable[str]) -> Holders:
    """Find who holds each alias.

    Args:
        client: The store.
        name: Registered model name.
        aliases: The aliases.

    Returns:
        Alias to version; None for one that nobody holds.
    """
    return {alias: alias_holder(client, name, alias) for alias in aliases}


def _assign(client: MlflowClient, name: str, alias: str, version: int | None) -> None:
    if alias_holder(client, name, alias) == version:
        return
    if version is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, str(version))


def _put_back(client: MlflowClient, name: str, former: Holders) -> None:
    """Undo in reverse order; the journal goes last, so that a failure here is found again."""
    try:
        for alias, version in reversed(former.items()):
            _assign(client, name, alias, version)
        client.delete_registered_model_tag(name, JOURNAL_TAG)
    except Exception as error:
        wanted = ", ".join(
            f"{alias} on {'nobody' if version is None else f'version {version}'}"
            for alias, version in former.items()
        )
        raise AliasesUnsettled(
            "aliases were being moved, the store failed, and they could not all be put back",
            where=f"models:/{name}",
            expected=wanted,
            got=f"{type(error).__name__}: {error}",
            fix="promote again: the next promotion puts them back first",
        ) from error
