"""The temporary Prefect server of one command: quiet, complete, and gone afterwards.

It ends with the run that started it: `tasks.engine.local_server`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.http_faults import recording_proxy
from tests.support.prefect_server import DATABASE_VARIABLE
from tests.support.processes import await_end, is_running

PROGRAM = """
from flows.cli.console import quiet_libraries
from flows.services.temporary_server import prefect_api

quiet_libraries()
with prefect_api() as address:
    from prefect import flow, task

    @task
    def add_one(number: int) -> int:
        return number + 1

    @flow
    def count() -> int:
        for number in range(10):
            total = add_one(number)
        return total

    print(address, count())
"""
WAITING = """
import sys, threading
import flows.services.temporary_server as server

started = server._start

def start(port, log):
    process = started(port, log)
    print(process.pid, flush=True)
    return process

server._start = start
with server.prefect_api():
    from prefect import flow

    @flow
    def wait():
        print("ready", flush=True)
        threading.Event().wait()

    wait() if sys.argv[1] == "flow" else threading.Event().wait(print("ready", flush=True))
"""
RECORDED = """
import sqlite3, sys
print(*sqlite3.connect(sys.argv[1]).execute("select state_type, count(*) from task_run group by 1"))
"""


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"PREFECT_HOME": str(folder / "prefect"), "SFT_HOME": str(folder / "home")}


def run(
    folder: Path, program: str, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=environment(folder) | more,
    )


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """What the proxy of `counted` was asked for."""
    return []


@pytest.fixture(scope="module")
def counted(
    asked: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A small flow where Prefect's home cannot be written, behind a proxy, with a login."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "file").touch()
    with recording_proxy() as (proxy, record):
        done = run(
            folder,
            PROGRAM,
            PREFECT_HOME=str(folder / "file" / "prefect"),
            PREFECT_SERVER_API_AUTH_STRING="ada:a-long-secret",
            HTTP_PROXY=proxy,
            NO_PROXY="",
        )
        asked += record
    return folder, done


def test_good_run_leaves_no_noise(counted: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = counted
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "10"
    for noise in ("Traceback", "Error flushing", "Warning", "ERROR"):
        assert noise not in done.stderr


def test_server_is_gone_afterwards(counted: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    from flows.services.prefect_api import is_up

    assert not is_up(counted[1].stdout.split()[0])


def test_no_proxy_is_asked_for_our_own_server(
    counted: tuple[Path, subprocess.CompletedProcess[str]], asked: list[str]
) -> None:
    assert counted[1].returncode == 0
    assert asked == []


def test_every_task_is_recorded_as_completed(
    counted: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = counted
    recorded = run(folder, RECORDED, str(folder / "home" / "prefect" / "prefect.db"))
    assert recorded.stdout.strip() == "('COMPLETED', 10)"


def test_server_that_cannot_start_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.services.temporary_server as server
    from schemas.errors import ServiceUnreachable

    broken = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    broken.wait()
    (tmp_path / "log").write_text("Traceback\nCan't locate revision\n\n")
    monkeypatch.setattr(server, "START_SECONDS", 1.0)
    with pytest.raises(ServiceUnreachable, match="did not start") as caught:
        server._await_health(broken, "http://127.0.0.1:9/api", tmp_path / "log")
    assert caught.value.got == "it exited: Can't locate revision"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("place", "number"),
    [("block", signal.SIGKILL), ("block", signal.SIGTERM), ("flow", signal.SIGTERM)],
)
def test_server_ends_with_a_run_that_was_killed(
    tmp_path: Path, place: str, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, place],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(tmp_path) | {DATABASE_VARIABLE: os.environ[DATABASE_VARIABLE]},
    ) as run_process:
        assert run_process.stdout
        server_id = int(run_process.stdout.readline())
        assert run_process.stdout.readline() == "ready\n"
        assert is_running(server_id)
        run_process.send_signal(number)
        await_end(server_id)


def test_one_server_starts_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock, Timeout

    import flows.services.temporary_server as server

    lock = FileLock(tmp_path / "home" / "prefect" / "server.lock")

    def await_health(*_: object) -> None:
        with pytest.raises(Timeout):  # another one would change the database at the same time
            lock.acquire(timeout=0)

    idle = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(server, "_start", lambda *_: subprocess.Popen(idle))
    monkeypatch.setattr(server, "_await_health", await_health)
    monkeypatch.setattr(server, "_await_records", lambda *_: None)
    with server.temporary_server():
        lock.acquire(timeout=0)  # both may run at once
        lock.release()
