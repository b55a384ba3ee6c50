"""One holder at a time for the aliases and weights of a name, on any number of machines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from schemas.errors import RegistryBusy
from tasks.engine.files import write_atomic
from tasks.engine.home import sqlite_file, tracking_uri, work_directory
from tasks.registry._faults import is_simultaneous
from tasks.registry.tags import LEASE_TAG

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

LEASE_SECONDS = 120.0
"""A lease that was not renewed for this long is that of a dead process."""
RENEW_SECONDS = 20.0
SETTLE_SECONDS = 2.0
"""Longer than one write to the store takes, unless it is retried or waits for a lock."""
SQLITE_SETTLE_SECONDS = 0.2
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Lease:
    """The right to change aliases and weights of a name, until the block ends."""

    client: MlflowClient
    name: str
    token: str

    def require(self) -> None:
        """Check that no other process took the lease, as one may that saw no renewal for long.

        Raises:
            RegistryBusy: Another process has it.
        """
        if _token(_read(self.client, self.name)) != self.token:
            raise _busy(self.name, "another process took the lease, which was not renewed in time")


@contextmanager
def promotion_lease(
    client: MlflowClient, name: str, wait_seconds: float = 900.0
) -> Iterator[Lease]:
    """Keep other processes from changing aliases and weights of a name.

    Processes that share a work directory use a file lock. Several machines may share a store, and
    MLflow has no compare-and-set, so there a lease is kept in a tag by Fischer's timed algorithm:
    write a token, wait longer than a write takes, and continue only if it is still there. A thread
    renews the lease. Waiting processes take it over when they saw no renewal for `LEASE_SECONDS` of
    their own clock, or at once when the token is one of this work directory, whose file lock they
    have. It relies on that time: a write that takes longer than `SETTLE_SECONDS` could let two in,
    so `Lease.require` comes right before changes, and the last to write is the one that passes it.
    Source: Lamport 1987, A Fast Mutual Exclusion Algorithm, section on timing.

    Args:
        client: The store.
        name: Registered model name; it exists.
        wait_seconds: How long to wait for another holder.

    Yields:
        The lease.

    Raises:
        RegistryBusy: Another holder did not finish in time.
    """
    # One lock for each name, whatever the spelling of the store's address.
    place = hashlib.sha256(name.encode()).hexdigest()[:24]
    path = work_directory() / "promotions" / f"{place}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise _busy(name, "another process with this work directory does not finish") from error
    try:
        lease = _acquire(client, name, path.with_suffix(".token"), deadline)
        with _renewing(lease):
            yield lease
    finally:
        lock.release()


def _acquire(client: MlflowClient, name: str, note: Path, deadline: float) -> Lease:
    token = uuid.uuid4().hex
    seen, seen_at = "", time.monotonic()
    while True:
        text = _read(client, name)
        if text != seen:
            seen, seen_at = text, time.monotonic()
        is_dead = time.monotonic() - seen_at > LEASE_SECONDS or _token(text) == _noted(note)
        if not text or is_dead:
            write_atomic(note, token)
            if _write_first(client, name, token):
                time.sleep(settle_seconds())
                if _token(_read(client, name)) == token:
                    return Lease(client, name, token)
        if time.monotonic() > deadline:
            raise _busy(name, "another machine does not finish")
        time.sleep(POLL_SECONDS)


@contextmanager
def _renewing(lease: Lease) -> Iterator[None]:
    """Renew the lease in a thread, and give it back at the end."""
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(RENEW_SECONDS):
            with contextlib.suppress(Exception):  # the next renewal may succeed, `require` checks
                lease.require()
                _write(lease.client, lease.name, lease.token)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        if _token(_read(lease.client, lease.name)) == lease.token:
            lease.client.delete_registered_model_tag(lease.name, LEASE_TAG)


def settle_seconds() -> float:
    """Return how long a write to the store may take, without an outage."""
    return SQLITE_SETTLE_SECONDS if sqlite_file(tracking_uri()) else SETTLE_SECONDS


def _noted(note: Path) -> str | None:
    """Return the last token of this work directory; its process is dead if it did not give it back."""
    return note.read_text(encoding="utf-8") if note.is_file() else None


def _read(client: MlflowClient, name: str) -> str:
    return str(client.get_registered_model(name).tags.get(LEASE_TAG, ""))


def _write(client: MlflowClient, name: str, token: str) -> None:
    lease = {"token": token, "renewed_at": f"{time.time():.3f}"}
    client.set_registered_model_tag(name, LEASE_TAG, json.dumps(lease))


def _write_first(client: MlflowClient, name: str, token: str) -> bool:
    """Write a token where there may be none; False if another process did so at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        _write(client, name, token)
    except MlflowException as error:
        if not is_simultaneous(error):
            raise
        return False
    return True


def _token(text: str) -> str:
    try:
        return str(json.loads(text)["token"])
    except (ValueError, KeyError, TypeError):
        return text


def _busy(name: str, got: str) -> RegistryBusy:
    return RegistryBusy(
        "aliases or weights of this name are being changed",
        where=f"models:/{name}",
        expected="one promotion at a time",
        got=got,
        fix="none needed in a run, which tries again; else repeat the command when the other is done",
    )
