"""One promotion at a time for a registered name, across processes and machines."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from schemas.errors import RegistryBusy
from tasks.engine.home import TRACKING_VARIABLE, tracking_uri, work_directory
from tasks.registry.tags import LEASE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

LEASE_SECONDS = 2 * 3600.0
"""A holder that died is waited for no longer; a promotion takes less."""
SETTLE_SECONDS = 2.0
"""Longer than one write to the store takes."""
POLL_SECONDS = 0.2


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
