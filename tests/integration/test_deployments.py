"""`prefect deploy --all` as it stands, against a real server, and a worker that runs one of them."""

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
from tests.integration.conftest import N_ROWS, toy_config
from tests.toy import make_toy_model, toy_rows, write_jsonl

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


def test_deploy_all_makes_both_deployments(server: Server) -> None:
    deployments = {found["name"]: found for found in server.ask("/deployments/filter", {})}
    assert set(deployments) == {"train-sft", "retrain-weekly"}
    schedule = deployments["retrain-weekly"]["schedules"][0]
    assert schedule["schedule"]["cron"] == "0 3 * * 1"
    assert deployments["train-sft"]["schedules"] == []
    assert deployments["train-sft"]["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
    ]


def test_worker_runs_a_deployment_to_the_end(server: Server, tmp_path: Path) -> None:
    model = make_toy_model(tmp_path / "model")
    data = write_jsonl(tmp_path / "rows.jsonl", toy_rows(N_ROWS))
    config = toy_config(model, data).model_dump(mode="json")
    server.prefect(
        "deployment", "run", "train-sft/train-sft", "--params", json.dumps({"config": config})
    )
    # --run-once takes the runs that are due, and waits for them to end.
    server.prefect("worker", "start", "--pool", "sft-local", "--run-once", timeout_seconds=400)
    runs = server.ask("/flow_runs/filter", {"sort": "START_TIME_ASC"})
    finished = [run for run in runs if run["start_time"]]
    assert [run["state"]["type"] for run in finished] == ["COMPLETED"]
    home = Path(server.environment["SFT_HOME"])
    reports = list(home.glob("stages/publish_report/*/report.json"))
    assert [json.loads(path.read_text("utf-8"))["decision"] for path in reports] == ["promote"]
