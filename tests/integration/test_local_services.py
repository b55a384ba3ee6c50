"""`sft-flow up`, `doctor` and `down` as a user runs them, with real servers.

The commands are `flows.cli.services` and `flows.cli.doctor`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from flows.services.local import last_heartbeat
from tasks.engine.local_server import free_port
from tests.support.documentation import documented
from tests.support.http_faults import recording_proxy
from tests.support.processes import clean_environment

pytestmark = pytest.mark.integration

Command = Callable[..., Any]
LOGIN = "ada:a-long-secret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[str, list[str]]]:
    """A proxy, and what it is asked for."""
    with recording_proxy() as found:
        yield found


@pytest.fixture(scope="module")
def sft_flow(folder: Path, asked: tuple[str, list[str]]) -> Iterator[Command]:
    """The command behind a proxy, where the Prefect server asks for a login."""
    environment = clean_environment() | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
        "SFT_HOME": str(folder / "home"),
        "HTTP_PROXY": asked[0],
        "NO_PROXY": "example.org",
    }
    environment.pop("no_proxy", None)

    def run(*arguments: str, **more: str) -> Any:
        program = "from flows.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env=environment | more,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    try:
        yield run
    finally:
        run("down")


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def our_heartbeat(api: str) -> str:
    with temporary_settings({PREFECT_API_AUTH_STRING: LOGIN}):
        return last_heartbeat(api, "sft-local")


def test_services_start_once_are_mended_and_stop_alone(
    sft_flow: Command, folder: Path, asked: tuple[str, list[str]]
) -> None:
    ports = ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
    first = sft_flow("up", *ports)
    pids = {service["name"]: service["pid"] for service in first["services"]}
    assert set(pids) == {"prefect", "mlflow", "worker"}

    # The server counts a killed worker as online for a while: `up` must not believe it.
    heartbeat = our_heartbeat(first["api"])
    os.kill(pids["worker"], signal.SIGKILL)
    again = sft_flow("up", *ports, PREFECT_API_URL=first["api"])
    renewed = {service["name"]: service["pid"] for service in again["services"]}
    assert renewed["worker"] != pids["worker"]
    assert renewed | {"worker": 0} == pids | {"worker": 0}
    assert our_heartbeat(first["api"]) > heartbeat > ""

    topics = {one["topic"]: one for one in sft_flow("doctor")}
    assert first["api"] in topics["prefect"]["detail"]
    assert topics["worker"]["health"] == "ok"

    for line in documented("docs/operate.md", "notify"):
        sft_flow(*shlex.split(line)[1:], PREFECT_API_URL=first["api"])
    assert sft_flow("notify", "--list", PREFECT_API_URL=first["api"]) == []

    assert asked[1] == []
    assert (folder / "home" / "prefect" / "prefect.db").is_file()
    assert not (folder / "prefect" / "prefect.db").exists()

    decoy = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    ours = [process for pid in renewed.values() for process in family(pid)]
    assert not [process for process in ours if "mlflow.server.jobs" in " ".join(process.cmdline())]
    assert {service["name"] for service in sft_flow("down")} == set(renewed)
    assert [process for process in ours if process.is_running()] == []
    assert decoy.poll() is None
    decoy.kill()
    decoy.wait()
