"""A Prefect server for one command, when none is configured.

Prefect can start one itself, but in our terminal session: its shutdown logs tracebacks when the
last events arrive late, and Ctrl-C stops it before the end of the run is recorded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from flows.services.prefect_api import API_VARIABLE, ask, is_healthy, known_api
from flows.services.signals import unwind_on_sigterm
from schemas.errors import ServiceUnreachable
from tasks.engine.home import work_directory
from tasks.engine.journal import entries_since
from tasks.engine.local_server import LOOPBACK, free_port, start_guarded, stop_guarded

START_SECONDS = 180.0
"""Longest start measured: 25 s on an empty home with both cores busy."""
DRAIN_SECONDS = 10.0
SETTLED_SECONDS = 0.5
UNFINISHED = ("PENDING", "RUNNING")
LOG_NAME = "prefect-server.log"


def set_prefect_environment() -> None:
    """Set the folder of Prefect's results, unless the user did; call it before importing Prefect."""
    os.environ.setdefault("PREFECT_LOCAL_STORAGE_PATH", str(work_directory() / "results"))


@contextmanager
def prefect_api() -> Iterator[str]:
    """Use the configured Prefect server, that of `sft-flow up`, or a temporary one.

    Yields:
        Address of the API.
    """
    set_prefect_environment()
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    from tasks.check_environment import check_work_directory

    check_work_directory(work_directory())
    configured = get_current_settings().api.url
    with unwind_on_sigterm():
        if configured:
            yield configured
            return
        local = known_api()
        if local and is_healthy(local):
            with temporary_settings({PREFECT_API_URL: local}):
                yield local
            return
        with temporary_server() as address:
            yield address


@contextmanager
def temporary_server() -> Iterator[str]:
    """Run a server until the block ends.

    Yields:
        Address of its API.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    port = free_port()
    address = f"http://{LOOPBACK}:{port}/api"
    log = work_directory() / LOG_NAME
    started = datetime.now(UTC)
    turn = _start_lock()
    turn.acquire()
    process = _start(port, log)
    try:
        with temporary_settings({PREFECT_API_URL: address}):
            # Importing the flow's libraries takes as long as starting the server.
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

            import flows.train_sft  # noqa: F401

            _await_health(process, address, log)
            turn.release()
            try:
                yield address
            finally:
                _drain()
                _await_records(address, started)
    finally:
        stop_guarded(process)
        turn.release()  # if the server did not start; otherwise it was released already


def _start_lock() -> FileLock:
    """Return the lock for starting a server: two must not migrate the same database."""
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    return FileLock(home / "sft-flow-server.lock")


def _start(port: int, log: Path) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment.pop("PREFECT_LOGGING_SERVER_LEVEL", None)
    # -P: do not import from the current folder.
    command = [sys.executable, "-P", "-m", "prefect", "server", "start"]
    return start_guarded([*command, "--host", LOOPBACK, "--port", str(port)], log, environment)


def _await_health(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if is_healthy(address):
            return
        time.sleep(0.1)
    raise ServiceUnreachable(
        "the temporary Prefect server did not start",
        where=address,
        expected=f"an answer within {START_SECONDS:.0f} s",
        got=f"exit code {process.returncode}" if process.poll() is not None else "no answer",
        fix=f"see {log}, or start `prefect server start` and set {API_VARIABLE}",
    )


def _drain() -> None:
    """Send queued logs and events before the server stops, as Prefect's own test harness does."""
    import inspect

    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.utilities.asyncutils import run_coro_as_sync

    async def drain() -> None:
        for worker in (APILogWorker, EventsWorker):
            waiting = worker.drain_all(timeout=DRAIN_SECONDS)
            if inspect.isawaitable(waiting):
                await waiting

    run_coro_as_sync(drain())


def _await_records(address: str, started: datetime) -> None:
    """Wait until the server has stored the final state of every task.

    Tasks report by events, which the server stores one by one and drops when it stops.
    """
    n_stages = len(entries_since(started))
    deadline = time.monotonic() + DRAIN_SECONDS
    settled_since, n_before = time.monotonic(), -1
    with suppress(OSError, ValueError):
        while time.monotonic() < deadline:
            n_all = _count_task_runs(address, started)
            if n_all != n_before or _count_task_runs(address, started, *UNFINISHED):
                settled_since, n_before = time.monotonic(), n_all
            elif n_all >= n_stages and time.monotonic() - settled_since > SETTLED_SECONDS:
                return
            time.sleep(0.1)


def _count_task_runs(address: str, started: datetime, *states: str) -> int:
    """Count the task runs since a time, in all states or some."""
    which: dict[str, object] = {"expected_start_time": {"after_": started.isoformat()}}
    if states:
        which["state"] = {"type": {"any_": states}}
    return int(ask(address, "/task_runs/count", {"task_runs": which}))
