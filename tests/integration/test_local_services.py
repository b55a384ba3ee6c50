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
from typing import Any

import psutil
import pytest

from flows.services.local import last_heartbeat
from tasks.engine.local_server import free_port
from tests.support.documentation import documented

pytestmark = pytest.mark.integration

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def sft_flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("services")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = kept | {"PREFECT_HOME": str(folder / "prefect"), "SFT_HOME": str(folder / "home")}
    environment.pop("MLFLOW_TRACKING_URI", None)

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


def test_services_start_once_are_mended_and_stop_alone(sft_flow: Command) -> None:
    ports = ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
    first = sft_flow("up", *ports)
    pids = {service["name"]: service["pid"] for service in first["services"]}
    assert set(pids) == {"prefect", "mlflow", "worker"}

    # The server counts a killed worker as online for a while: `up` must not believe it.
    heartbeat = last_heartbeat(first["api"], "sft-local")
    os.kill(pids["worker"], signal.SIGKILL)
    again = sft_flow("up", *ports, PREFECT_API_URL=first["api"])
    renewed = {service["name"]: service["pid"] for service in again["services"]}
    assert renewed["worker"] != pids["worker"]
    assert renewed | {"worker": 0} == pids | {"worker": 0}
    assert last_heartbeat(first["api"], "sft-local") > heartbeat > ""

    topics = {one["topic"]: one for one in sft_flow("doctor")}
    assert first["api"] in topics["prefect"]["detail"]
    assert topics["worker"]["health"] == "ok"

    for line in documented("docs/operate.md", "notify"):
        sft_flow(*shlex.split(line)[1:], PREFECT_API_URL=first["api"])
    assert sft_flow("notify", "--list", PREFECT_API_URL=first["api"]) == []

    decoy = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    ours = [process for pid in renewed.values() for process in family(pid)]
    assert {service["name"] for service in sft_flow("down")} == set(renewed)
    assert [process for process in ours if process.is_running()] == []
    assert decoy.poll() is None
    decoy.kill()
    decoy.wait()
