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
from typing import TYPE_CHECKING

from filelock import FileLock

from flows.services.prefect_api import (
    API_VARIABLE,
    api_client,
    check_api,
    configured_api,
    is_up,
    use_api,
)
from flows.services.signals import unwind_on_sigterm
from flows.services.state import local_prefect_api
from schemas.errors import ServiceUnreachable, SftFlowError
from tasks.engine.home import (
    PREFECT_HOME_VARIABLE,
    PROFILES_VARIABLE,
    prefect_home,
    work_directory,
)
from tasks.engine.journal import entries_since
from tasks.engine.local_server import (
    free_port,
    local_url,
    loopback,
    start_guarded,
    stop_guarded,
)
from tasks.engine.proxies import check_proxies

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

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
    from tasks.check_environment import check_work_directory

    check_work_directory(work_directory())
    check_proxies()
    with unwind_on_sigterm():
        if configured := configured_api():
            check_api(configured)
            with use_api(configured):
                yield configured
            return
        local = local_prefect_api()
        if local and is_up(local):
            with use_api(local):
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
    port = free_port()
    address = f"{local_url(port)}/api"
    log = work_directory() / LOG_NAME
    started = datetime.now(UTC)
    turn = start_lock()
    turn.acquire()
    process = _start(port, log)
    try:
        with use_api(address):
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


def start_lock() -> FileLock:
    """Return the lock for starting a server: two must not migrate the same database."""
    home = prefect_home()
    home.mkdir(parents=True, exist_ok=True)
    return FileLock(home / "server.lock")


def server_environment() -> dict[str, str]:
    """Return the environment of a Prefect server that is started here.

    Its database is in the work directory, unless one is configured in the environment or the
    profile: one in the user's home would be changed for every other project, by its version.
    """
    from prefect.settings import get_current_settings

    profiles = get_current_settings().profiles_path
    environment = {PROFILES_VARIABLE: str(profiles), **os.environ}
    environment[PREFECT_HOME_VARIABLE] = str(prefect_home())
    environment.pop("PREFECT_LOGGING_SERVER_LEVEL", None)
    return environment


def _start(port: int, log: Path) -> subprocess.Popen[bytes]:
    # -P: do not import from the current folder.
    command = [sys.executable, "-P", "-m", "prefect", "server", "start"]
    return start_guarded(
        [*command, "--host", loopback(), "--port", str(port)], log, server_environment()
    )


def _await_health(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if is_up(address):
            return
        time.sleep(0.1)
    raise ServiceUnreachable(
        "the temporary Prefect server did not start",
        where=address,
        expected=f"an answer within {START_SECONDS:.0f} s",
        got="no answer" if process.poll() is None else f"it exited: {last_line(log)}",
        fix=f"see {log}; or set {API_VARIABLE} to another server",
    )


def last_line(log: Path) -> str:
    """Return the last line of a server's log that is not empty."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "without output"


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
    with suppress(SftFlowError), api_client(address, is_patient=False) as client:
        while time.monotonic() < deadline:
            n_all = _count_task_runs(client, started)
            if n_all != n_before or _count_task_runs(client, started, *UNFINISHED):
                settled_since, n_before = time.monotonic(), n_all
            elif n_all >= n_stages and time.monotonic() - settled_since > SETTLED_SECONDS:
                return
            time.sleep(0.1)


def _count_task_runs(client: SyncPrefectClient, started: datetime, *states: str) -> int:
    """Count the task runs since a time, in all states or some."""
    which: dict[str, object] = {"expected_start_time": {"after_": started.isoformat()}}
    if states:
        which["state"] = {"type": {"any_": states}}
    answer = client.request("POST", "/task_runs/count", json={"task_runs": which})
    return int(answer.json())
