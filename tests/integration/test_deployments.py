"""`prefect deploy --all` as it stands, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows._server import free_port, is_healthy

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


@dataclass
class Server:
    """A running Prefect server and how to speak to it."""

    address: str
    environment: dict[str, str]

    def prefect(self, *arguments: str, timeout_seconds: float = 120) -> str:
        """Run one command of Prefect's own command line in the project's folder."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, path: str, question: dict[str, Any]) -> Any:
        """Put one question to the API."""
        request = urllib.request.Request(
            f"{self.address}{path}",
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start `prefect server start` on a free port with a home of its own."""
    folder = tmp_path_factory.mktemp("deploy")
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = kept | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": address,
        "SFT_HOME": str(folder / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_healthy(address) and time.monotonic() < deadline:
            time.sleep(0.2)
        found = Server(address, environment)
        found.prefect("work-pool", "create", "--type", "process", "sft-local")
        found.prefect("deploy", "--all")
        yield found
    finally:
        process.terminate()
        process.wait(30)


def test_deploy_all_makes_every_deployment(server: Server) -> None:
    deployments = {found["name"]: found for found in server.ask("/deployments/filter", {})}
    assert set(deployments) == {
        "train-sft",
        "retrain-weekly",
        "retrain-on-data",
        "check-data",
        "promote-model",
    }
    schedule = deployments["retrain-weekly"]["schedules"][0]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 3 * * 1", True)
    assert deployments["retrain-on-data"]["schedules"][0]["schedule"]["interval"] == 900
    for found in deployments.values():
        assert found["pull_steps"] == [
            {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
        ]
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert found["global_concurrency_limit"]["limit"] == 1
        assert set(found["parameters"]) == set(found["parameter_openapi_schema"]["properties"])


def test_deploying_again_makes_no_twins(server: Server) -> None:
    server.prefect("deploy", "--all")
    assert len(server.ask("/deployments/filter", {})) == 5
    (automation,) = server.ask("/automations/filter", {})
    assert automation["name"] == "retrain-on-data"
    assert automation["trigger"]["expect"] == ["sft-flow.data.arrived"]
