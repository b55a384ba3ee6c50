"""Task `check_environment`: find in the first second what would otherwise fail after an hour."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec
from urllib.parse import unquote

from filelock import FileLock
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from schemas.config.evaluation import ServerConfig
from schemas.config.registry import RegistryConfig
from schemas.errors import ConfigError, WorkDirectoryError, is_disk_full
from schemas.rules.check_set import require_docstrings
from tasks.engine.home import has_store, is_default_store, tracking_uri, work_directory
from tasks.engine.launchers import leave_launcher
from tasks.engine.stage import BACKOFF_SECONDS, PLAN, RETRIES, should_retry
from tasks.engine.wording import gibibytes
from tasks.evaluation.server import require_server
from tasks.registry.open_runs import close_left_runs
from tasks.registry.ping import ping
from tasks.registry.store import connect, store_errors
from tasks.registry.write_check import check_writes
from tasks.release.registration import discard_left_runs

P = ParamSpec("P")

MIN_FREE_BYTES = 2 * 2**30
"""The demo's outputs take about 1.8 GB: base, tuned, registered copy and checkpoints."""
MIN_FREE_TEMPORARY_BYTES = 2**30
"""MLflow writes a model there before it stores it, and a model of a remote store is downloaded there:
0.54 GB for the demo's."""
MIN_FREE_VARIABLE = "SFT_MIN_FREE_BYTES"


def check_work_directory(folder: Path) -> None:
    """Create the work directory.

    Args:
        folder: Its path.

    Raises:
        WorkDirectoryError: It is not writable, its disk is full, files in it cannot be locked, or its
            path cannot be in an address.
    """
    path = str(folder)
    if is_default_store() and (unquote(path) != path or "?" in path):
        raise WorkDirectoryError(
            "the path of the work directory cannot be in the address of a SQLite file",
            where=path,
            expected="a path without ? and without % before two hexadecimal digits",
            got=path,
            fix="set SFT_HOME to another folder, or rename this one",
        )
    _check_folder(folder, "the work directory", "SFT_HOME", MIN_FREE_BYTES)
    _check_locks(folder)


def check_temporary_folder() -> Path:
    """Check the folder for temporary files like the work directory.

    Returns:
        The folder.

    Raises:
        WorkDirectoryError: There is no such folder, or it cannot be written or is full.
    """
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise WorkDirectoryError(
            "there is no folder for temporary files that can be written",
            where="TMPDIR",
            expected="a folder with write permission",
            got=error.strerror or str(error),
            fix="set TMPDIR to a folder with write permission",
        ) from error
    _check_folder(folder, "the folder for temporary files", "TMPDIR", MIN_FREE_TEMPORARY_BYTES)
    return folder


def _check_folder(folder: Path, name: str, variable: str, min_free_bytes: int) -> None:
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("ok", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        is_full = is_disk_full(error)
        raise WorkDirectoryError(
            f"the disk of {name} is full" if is_full else f"{name} cannot be written",
            where=str(folder),
            expected="a folder where files can be created"
            if is_full
            else "a folder with write permission",
            got=error.strerror or str(error),
            fix=f"free space, files or quota, or set {variable} to a folder on another disk"
            if is_full
            else f"set {variable} to another folder, or fix its permissions",
        ) from error
    free, needed = shutil.disk_usage(folder).free, _needed_bytes(min_free_bytes)
    if free < needed:
        raise WorkDirectoryError(
            f"the disk of {name} is nearly full",
            where=str(folder),
            expected=f"at least {gibibytes(needed)} free",
            got=gibibytes(free),
            fix=f"free space, set {variable} to another disk, or set {MIN_FREE_VARIABLE}",
        )


def _check_locks(folder: Path) -> None:
    """Lock a file as stages and promotions do, and as SQLite does: network disks may allow neither."""
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        with FileLock(probe):
            pass
        with probe.open("ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise WorkDirectoryError(
            "files in the work directory cannot be locked",
            where=str(folder),
            expected="a file system with flock and POSIX locks, as local disks have",
            got=error.strerror or str(error),
            fix="set SFT_HOME to a folder on a local disk, or mount this one with locks (NFS: with its lock service)",
        ) from error
    finally:
        probe.unlink(missing_ok=True)


def _needed_bytes(min_free_bytes: int) -> int:
    text = os.environ.get(MIN_FREE_VARIABLE) or str(min_free_bytes)
    if not text.isdecimal():
        raise ConfigError(
            "the number of bytes cannot be read",
            where=MIN_FREE_VARIABLE,
            expected=f"a whole number of bytes, such as {MIN_FREE_BYTES}",
            got=text,
            fix=f"correct {MIN_FREE_VARIABLE}, or unset it",
        )
    return int(text)


def _check_environment(server: ServerConfig | None = None) -> None:
    """Check folders, registry and evaluation server before any work is done."""
    if left := leave_launcher():
        get_run_logger().info("ignored variables of another launcher: %s", ", ".join(left))
    require_docstrings()
    check_work_directory(work_directory())
    check_temporary_folder()
    require_server(server)
    ping(tracking_uri())


def _check_registry(registry: RegistryConfig) -> None:
    """Check that a result can be registered, and end what killed processes left unfinished."""
    if not has_store():
        return  # the run creates it in the work directory; importing MLflow would take seconds
    check_writes(registry, is_training=True)
    client = connect()
    with store_errors():
        for run_id in close_left_runs(client):
            get_run_logger().info("run %s of a killed process is closed", run_id)
        discard_left_runs(client)


class _EnvironmentTask(Task[P, None]):
    """A task that `plan` skips, since a plan must not contact servers."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:  # type: ignore[override]
        """Check, unless planning."""
        if PLAN.get() is None:
            super().__call__(*args, **kwargs)


def _make_task(check: Callable[P, None], name: str) -> _EnvironmentTask[P]:
    return _EnvironmentTask(
        check,
        name=name,
        cache_policy=NO_CACHE,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(BACKOFF_SECONDS),
        retry_jitter_factor=0.2,
        retry_condition_fn=should_retry,
        timeout_seconds=300,
    )


check_environment = _make_task(_check_environment, "check_environment")
check_registry = _make_task(_check_registry, "check_registry")
