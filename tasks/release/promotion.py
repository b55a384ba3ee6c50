"""Making a version champion: checked, alone, and all aliases at once."""

from __future__ import annotations

import functools
import getpass
import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from schemas.config.registry import RegistryConfig
from schemas.errors import ChampionChanged, RegistryBusy
from tasks.engine.home import TRACKING_VARIABLE, tracking_uri, work_directory
from tasks.registry.aliases import move_aliases, restore_interrupted
from tasks.registry.lineage import shorten
from tasks.registry.store import alias_holder
from tasks.registry.tags import LEASE_TAG, PROMOTED_AT_TAG, PROMOTED_BY_TAG, PROMOTION_REASON_TAG
from tasks.release.reload.check import check_reload

if TYPE_CHECKING:
    from mlflow import MlflowClient

Guard = Callable[[int | None], None]
"""Called with the present champion before anything moves; raises when it must not."""

LEASE_SECONDS = 2 * 3600.0
"""A holder that died is waited for no longer; a promotion takes less."""
SETTLE_SECONDS = 2.0
"""Longer than one write to the store takes."""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Request:
    """A version that is to become champion."""

    version: int
    who: str
    """A person's name, or the flow's."""
    why: str
    is_challenger: bool = False
    """It was judged last: it takes that alias too."""


@dataclass(frozen=True)
class Promoted:
    """Who is champion now, and who was."""

    version: int
    former: int | None
    """None when nobody was, or when the version was champion already."""


def expect_champion(name: str, expected: int | None) -> Guard:
    """Make a guard that lets a promotion go on only while the champion is whom it was decided on.

    Args:
        name: Registered model name.
        expected: Version the challenger was compared with; None: nobody.

    Returns:
        The guard; it raises `ChampionChanged`.
    """
    return functools.partial(_require_champion, name, expected)


def _require_champion(name: str, expected: int | None, holder: int | None) -> None:
    if holder != expected:
        raise ChampionChanged(
            "another promotion came first",
            where=f"models:/{name}",
            expected=_shown(expected),
            got=_shown(holder),
            fix="nothing: the run compares with the new champion and decides again",
        )


def _shown(version: int | None) -> str:
    return "no champion" if version is None else f"version {version} as champion"


def make_champion(
    client: MlflowClient, registry: RegistryConfig, request: Request, guard: Guard
) -> Promoted:
    """Give a version the champion's alias, and the former champion the alias `previous`.

    What the registry gives back is held against what was judged before any alias moves.

    Args:
        client: The store.
        registry: Name and aliases.
        request: The version, and who promotes it why.
        guard: Looks at the present champion first.

    Returns:
        Who is champion now, and who was.
    """
    name, version = registry.name, request.version
    with promotion_lease(client, name):
        restore_interrupted(client, name)
        holder = alias_holder(client, name, registry.alias)
        if holder == version:
            return Promoted(version, None)
        guard(holder)
        check_reload(name, version, registry.n_reload_prompts)
        moves = {registry.previous_alias: holder, registry.alias: version}
        if request.is_challenger:
            moves = {registry.challenger_alias: version, **moves}
        former = move_aliases(client, name, moves)
        try:
            note_promotion(client, name, request)
        except BaseException:
            move_aliases(client, name, former)
            raise
    return Promoted(version, holder)


def note_promotion(client: MlflowClient, name: str, request: Request) -> None:
    """Write on the version who promoted it, when and why.

    Args:
        client: The store.
        name: Registered model name.
        request: The version, who and why.
    """
    tags = {
        PROMOTED_BY_TAG: request.who,
        PROMOTED_AT_TAG: datetime.now(UTC).isoformat(timespec="seconds"),
        PROMOTION_REASON_TAG: shorten(request.why),
    }
    for tag, text in tags.items():
        client.set_model_version_tag(name, str(request.version), tag, text)


def user_name() -> str:
    """Name the person at the keyboard.

    Returns:
        The login name; unknown where the system has none.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@contextmanager
def promotion_lease(client: MlflowClient, name: str, wait_seconds: float = 900.0) -> Iterator[None]:
    """Keep others from moving the aliases of a name.

    A file lock settles it for one work directory. Several machines may share a store, and MLflow
    has no compare-and-set, so there a lease is kept in a tag by Fischer's timed algorithm: write
    a token, wait longer than a write takes, and go on only if it is still there. It relies on
    that time: a write that takes longer than `SETTLE_SECONDS` could let two in, and then the
    check of the holder right before the move is what is left.
    Source: Lamport 1987, A Fast Mutual Exclusion Algorithm, section on timing.

    Args:
        client: The store.
        name: Registered model name; it exists.
        wait_seconds: How long to wait for another holder.

    Yields:
        Nothing, while the lease is held.

    Raises:
        RegistryBusy: Another holder did not finish in time.
    """
    place = hashlib.sha256(f"{tracking_uri()} {name}".encode()).hexdigest()[:24]
    path = work_directory() / "promotions" / f"{place}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise _busy(name, "another process of this machine") from error
    try:
        if not os.environ.get(TRACKING_VARIABLE):
            yield  # the store in the work directory is nobody else's
            return
        token = _acquire(client, name, deadline)
        try:
            yield
        finally:
            if _holder(client, name).get("token") == token:
                client.delete_registered_model_tag(name, LEASE_TAG)
    finally:
        lock.release()


def _acquire(client: MlflowClient, name: str, deadline: float) -> str:
    token = uuid.uuid4().hex
    home = hashlib.sha256(f"{socket.gethostname()} {work_directory()}".encode()).hexdigest()[:16]
    while True:
        holder = _holder(client, name)
        # Ours is a dead one: its process no longer holds the file lock.
        is_free = not holder or holder["home"] == home or float(holder["until"]) < time.time()
        if is_free:
            lease = {"token": token, "home": home, "until": f"{time.time() + LEASE_SECONDS:.0f}"}
            client.set_registered_model_tag(name, LEASE_TAG, json.dumps(lease))
            time.sleep(SETTLE_SECONDS)
            if _holder(client, name).get("token") == token:
                return token
        if time.monotonic() > deadline:
            raise _busy(name, "another machine")
        time.sleep(POLL_SECONDS)


def _holder(client: MlflowClient, name: str) -> dict[str, str]:
    text = client.get_registered_model(name).tags.get(LEASE_TAG)
    found: dict[str, str] = json.loads(text) if text else {}
    return found


def _busy(name: str, who: str) -> RegistryBusy:
    return RegistryBusy(
        "the aliases of this name are being moved",
        where=f"models:/{name}",
        expected="one promotion at a time",
        got=f"{who} does not finish",
        fix=f"try again; if no promotion runs, delete the tag {LEASE_TAG} of the registered model",
    )
