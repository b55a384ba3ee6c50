"""Servers that a test starts, and ends without touching any other process."""

from __future__ import annotations

import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tasks.engine.home import QUIET_ENVIRONMENT

START_SECONDS = 180
STOP_SECONDS = 30


def clean_environment() -> dict[str, str]:
    """Copy our environment without what points Prefect and MLflow at other servers.

    Returns:
        Environment variables.
    """
    foreign = ("PREFECT_", "MLFLOW_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept |= QUIET_ENVIRONMENT
    del kept["PREFECT_LOGGING_SERVER_LEVEL"]  # the log is what a failed start is explained with
    return kept


@contextmanager
def running(
    command: list[str],
    log: Path,
    settings: Mapping[str, str],
    is_ready: Callable[[], bool],
    *,
    user: str | None = None,
) -> Iterator[None]:
    """Run a server in a session of its own until the block ends.

    Args:
        command: Its command line.
        log: Gets what it writes.
        settings: Environment variables on top of ours.
        is_ready: Asks it whether it is up.
        user: Whom it runs as, when not as ourselves.

    Yields:
        Nothing, once it is up.

    Raises:
        TimeoutError: It ended, or took too long.
    """
    group = pwd.getpwnam(user).pw_gid if user else None
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**clean_environment(), **settings},
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=[] if user else None,
            cwd="/" if user else None,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(log.read_text(encoding="utf-8", errors="replace")[-2000:])
            time.sleep(0.2)
        yield
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # To PostgreSQL SIGINT means: end the connections, do not wait for them.
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its children, should it have left any
    process.wait()


def is_running(process_id: int) -> bool:
    """Tell whether a process runs; a zombie that nobody has collected does not."""
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_end(*process_ids: int) -> None:
    """Wait until none of the processes runs.

    Args:
        process_ids: Their ids.

    Raises:
        TimeoutError: One of them still runs.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while any(map(is_running, process_ids)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"one of {process_ids} still runs")
        time.sleep(0.02)


def completions_server(way: str) -> str:
    """Return the command of a server of completions that behaves in a way, see its file."""
    script = Path(__file__).with_name("completions_server.py")
    return f"{shlex.join([sys.executable, str(script)])} {{model}} {{port}} {shlex.quote(way)}"
