"""Make a version champion: after a check, under a lease, and with all aliases moved together."""

from __future__ import annotations

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
"""Called with the current champion before any alias moves; raises if it must not move."""

LEASE_SECONDS = 2 * 3600.0
"""Longest lease, if its holder died; a promotion takes less."""
SETTLE_SECONDS = 2.0
"""Longer than one write to the store takes."""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Request:
    """A promotion to make."""

    version: int
    who: str
    """Name of a person or of the flow."""
    why: str
    is_challenger: bool = False
    """It is the last evaluated version and gets that alias too."""


@dataclass(frozen=True)
class Promoted:
    """The new champion and the previous one."""

    version: int
    former: int | None
    """None if there was none, or if the version was champion already."""


def expect_champion(name: str, expected: int | None) -> Guard:
    """Return a guard that raises `ChampionChanged` unless the given version, or none, is champion."""

    def guard(holder: int | None) -> None:
        """Raise ChampionChanged unless the holder is the expected version."""
        if holder != expected:
            raise ChampionChanged(
                "another promotion came first",
                where=f"models:/{name}",
                expected=_shown(expected),
                got=_shown(holder),
                fix="none needed: the run compares with the new champion and decides again",
            )

    return guard


def _shown(version: int | None) -> str:
    return "no champion" if version is None else f"version {version} as champion"


def make_champion(
    client: MlflowClient, registry: RegistryConfig, request: Request, guard: Guard
) -> Promoted:
    """Move the champion alias to a version, and the alias `previous` to the champion before it.

    The files in the registry are compared with what was evaluated before any alias moves.

    Args:
        client: The store.
        registry: Name and aliases.
        request: The version, who promotes it and why.
        guard: Checks the current champion first.

    Returns:
        The new champion and the previous one.
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
    """Tag the version with who promoted it, when and why."""
    tags = {
        PROMOTED_BY_TAG: request.who,
        PROMOTED_AT_TAG: datetime.now(UTC).isoformat(timespec="seconds"),
        PROMOTION_REASON_TAG: shorten(request.why),
    }
    for tag, text in tags.items():
        client.set_model_version_tag(name, str(request.version), tag, text)


def user_name() -> str:
    """Return the login name; unknown if the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@contextmanager
def promotion_lease(client: MlflowClient, name: str, wait_seconds: float = 900.0) -> Iterator[None]:
    """Keep other processes from moving the aliases of a name.

    A file lock suffices for one work directory. Several machines may share a store, and MLflow
    has no compare-and-set, so there a lease is kept in a tag by Fischer's timed algorithm: write
    a token, wait longer than a write takes, and continue only if it is still there. It relies on
    that time: a write that takes longer than `SETTLE_SECONDS` could let two in, and then only the
    check of the holder right before the move is left.
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
            yield  # no other machine uses the store in the work directory
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
        # A lease of this home is of a dead process, as its file lock is free.
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
        fix=f"try again; if no promotion is running, delete tag {LEASE_TAG} of the registered model",
    )
