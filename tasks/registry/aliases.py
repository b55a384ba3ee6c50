"""Move the aliases of a registered model, all together or not at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from schemas.base import Record
from schemas.errors import AliasesUnsettled
from tasks.registry.lease import LEASE_SECONDS, Lease, promotion_lease, settle_seconds
from tasks.registry.store import alias_holder
from tasks.registry.tags import JOURNAL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

Holders = dict[str, int | None]
RESTORE_SECONDS = 1.5 * LEASE_SECONDS
"""How long a command waits for the process whose transaction it found: it may be dead."""


class TagChange(Record):
    """A tag of a version before and after a transaction."""

    version: int
    tag: str
    before: str | None
    after: str


class Journal(Record):
    """A transaction, as its tag has it while it is not complete."""

    aliases: dict[str, tuple[int | None, int | None]]
    """Version of each alias before and after."""
    tags: list[TagChange] = Field(default_factory=list)


def move_aliases(
    client: MlflowClient,
    name: str,
    moves: Mapping[str, int | None],
    tags: Mapping[int, Mapping[str, str]] | None = None,
    lease: Lease | None = None,
) -> Holders:
    """Move aliases and set tags of versions in one transaction; call it within `settled_aliases`.

    What was before is written to a tag first. When a later step fails or is interrupted, all of it
    is restored; when the process is killed, the next command restores it.

    Args:
        client: The store.
        name: Registered model name.
        moves: Alias to its version, or None to delete it; in the order they are made.
        tags: New tags by version.
        lease: Checked again right before the first move.

    Returns:
        The version that had each alias before.
    """
    former = read_holders(client, name, moves)
    journal = Journal(
        aliases={alias: (former[alias], holder) for alias, holder in moves.items()},
        tags=[
            TagChange(version=version, tag=tag, before=had.get(tag), after=text)
            for version, texts in (tags or {}).items()
            for had in [client.get_model_version(name, str(version)).tags]
            for tag, text in texts.items()
        ],
    )
    client.set_registered_model_tag(name, JOURNAL_TAG, journal.model_dump_json())
    try:
        if lease:
            lease.require()
        for alias, holder in moves.items():
            _assign(client, name, alias, holder)
        for change in journal.tags:
            client.set_model_version_tag(name, str(change.version), change.tag, change.after)
        client.delete_registered_model_tag(name, JOURNAL_TAG)
    except BaseException:
        _put_back(client, name, journal)
        raise
    return former


@contextlib.contextmanager
def settled_aliases(
    client: MlflowClient, name: str, wait_seconds: float = 900.0
) -> Iterator[Lease]:
    """Take the lease of a name, and first undo a transaction whose process was killed."""
    with promotion_lease(client, name, wait_seconds) as lease:
        if JOURNAL_TAG in client.get_registered_model(name).tags:
            time.sleep(
                settle_seconds()
            )  # of a living process, if its write was slow: it gives up now
            lease.require()
            restore_interrupted(client, name)
        yield lease


def settle_aliases(client: MlflowClient, name: str) -> None:
    """Undo a transaction whose process was killed; call it before aliases are read.

    Costs one request where there is none.

    Args:
        client: The store.
        name: Registered model name; it need not exist.
    """
    from mlflow.exceptions import MlflowException

    try:
        is_settled = JOURNAL_TAG not in client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return
    if not is_settled:
        with settled_aliases(client, name, RESTORE_SECONDS):
            pass


def restore_interrupted(client: MlflowClient, name: str) -> Holders:
    """Undo a transaction whose process was killed, except what was changed by hand since.

    Args:
        client: The store.
        name: Registered model name.

    Returns:
        The version that each alias of the transaction had before; empty if none was interrupted.
    """
    text = client.get_registered_model(name).tags.get(JOURNAL_TAG)
    if not text:
        return {}
    try:
        journal = Journal.model_validate_json(text)
    except ValidationError:  # of another release, or edited by hand: nothing is known
        journal = Journal(aliases={})
    _put_back(client, name, journal)
    return {alias: before for alias, (before, _) in journal.aliases.items()}


def read_holders(client: MlflowClient, name: str, aliases: Iterable[str]) -> Holders:
    """Return the version of each alias, None for an alias that no version has."""
    return {alias: alias_holder(client, name, alias) for alias in aliases}


def version_exists(client: MlflowClient, name: str, version: int) -> bool:
    """Return whether the registry still has a version."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _assign(client: MlflowClient, name: str, alias: str, version: int | None) -> None:
    if alias_holder(client, name, alias) == version:
        return
    if version is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, str(version))


def _put_back(client: MlflowClient, name: str, journal: Journal) -> None:
    """Undo in reverse order; the journal goes last, so that a later command finds a failure here."""
    try:
        for change in reversed(journal.tags):
            _put_back_tag(client, name, change)
        for alias, (holder, moved_to) in reversed(journal.aliases.items()):
            is_ours = alias_holder(client, name, alias) == moved_to  # else a person moved it since
            if is_ours and (holder is None or version_exists(client, name, holder)):
                _assign(client, name, alias, holder)
        client.delete_registered_model_tag(name, JOURNAL_TAG)
    except Exception as error:
        expected = ", ".join(
            f"{alias} on {'no version' if before is None else f'version {before}'}"
            for alias, (before, _) in journal.aliases.items()
        )
        raise AliasesUnsettled(
            "the store failed while aliases were moved, and not all could be restored",
            where=f"models:/{name}",
            expected=expected,
            got=f"{type(error).__name__}: {error}",
            fix="repeat the command when the store works: the next one of any kind restores them",
        ) from error


def _put_back_tag(client: MlflowClient, name: str, change: TagChange) -> None:
    version = str(change.version)
    if not version_exists(client, name, change.version):
        return
    if client.get_model_version(name, version).tags.get(change.tag) != change.after:
        return
    if change.before is None:
        client.delete_model_version_tag(name, version, change.tag)
    else:
        client.set_model_version_tag(name, version, change.tag, change.before)
