"""The temporary Prefect server of one command: quiet, complete, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from flows._console import quiet_libraries
from flows._server import prefect_api

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
RECORDED = """
import sqlite3, sys
print(*sqlite3.connect(sys.argv[1]).execute("select state_type, count(*) from task_run group by 1"))
"""


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"PREFECT_HOME": str(folder / "prefect"), "SFT_HOME": str(folder / "home")}


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=environment(folder),
    )


@pytest.fixture(scope="module")
def counted(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A small flow on an empty Prefect home, in a process of its own."""
    folder = tmp_path_factory.mktemp("server")
    return folder, run(folder, PROGRAM)


def test_good_run_leaves_no_noise(counted: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = counted
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "10"
    for noise in ("Traceback", "Error flushing", "Warning", "ERROR"):
        assert noise not in done.stderr


def test_server_is_gone_afterwards(counted: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    from flows._server import is_healthy

    assert not is_healthy(counted[1].stdout.split()[0])


def test_every_task_is_recorded_as_completed(
    counted: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = counted
    recorded = run(folder, RECORDED, str(folder / "prefect" / "prefect.db"))
    assert recorded.stdout.strip() == "('COMPLETED', 10)"


def test_server_that_cannot_start_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows._server as server
    from schemas.errors import ServiceUnreachable

    broken = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    broken.wait()
    monkeypatch.setattr(server, "START_SECONDS", 1.0)
    with pytest.raises(ServiceUnreachable, match="did not start") as caught:
        server._await_health(broken, "http://127.0.0.1:9/api", tmp_path / "log")
    assert caught.value.got == "exit code 3"
