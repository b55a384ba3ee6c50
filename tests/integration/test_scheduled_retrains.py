"""Recurring retrains from the outside: commands, a schedule that fires, a promotion, a skip, a refusal.

Runs of one name wait for each other (`flows._one_at_a_time`). Everything is started as a user starts it; only model, data and the time between runs are small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.engine.local_server import free_port
from tests.integration.conftest import N_ROWS, toy_config
from tests.support.prefect_server import ROOT, Server
from tests.support.toy import make_toy_model, toy_rows, write_jsonl
from tests.support.webhook import Receiver

pytestmark = pytest.mark.integration

NAME = "toy-scheduled"
RUN_SECONDS = 300.0
INTERVAL_SECONDS = 15
"""Shorter than a run, so that runs of the schedule meet and wait for each other."""
BROKEN = [{"prompt": "Where is the lid of the box?", "completion": ""}] * 30


@dataclass
class Place:
    """A folder as a user has it: the project, a configuration, data and running services."""

    server: Server
    folder: Path
    data: Path
    receiver: Receiver

    def finished_runs(self, n_runs: int) -> list[dict[str, Any]]:
        """Wait until so many flow runs have ended."""
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            runs = self.server.ask("/flow_runs/filter", {"sort": "START_TIME_ASC"})
            ended = [run for run in runs if run["end_time"]]
            if len(ended) >= n_runs:
                return ended
            assert time.monotonic() < deadline, runs
            time.sleep(0.5)

    def first_run_after(
        self, n_runs: int, is_wanted: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Wait for a run that is wanted, after so many have ended."""
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            found = [run for run in self.finished_runs(n_runs)[n_runs:] if is_wanted(run)]
            if found:
                return found[0]
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def wait_for_skip(self, reason: str) -> None:
        """Wait until a run has ended without training for this reason; events come a little later."""
        deadline = time.monotonic() + RUN_SECONDS
        while not any(found.startswith(reason) for found in skips(self.server)):
            assert time.monotonic() < deadline, skips(self.server)
            time.sleep(0.5)


def command(environment: dict[str, str], folder: Path, program: str, *arguments: str) -> str:
    """Run a program of the environment in the user's folder, and see it succeed."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_deployments(folder: Path, config: dict[str, Any]) -> None:
    """Copy prefect.yaml with other settings and a short interval."""
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    for deployment in project["deployments"]:
        if "config" in deployment["parameters"]:
            deployment["parameters"]["config"] = config
        if deployment["name"] == "retrain-on-data":
            deployment["schedules"][0]["interval"] = INTERVAL_SECONDS
    (folder / "prefect.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("project")
    for room in ("flows", "schemas", "tasks"):
        (folder / room).symlink_to(ROOT / room)
    model = make_toy_model(folder / "model")
    data = write_jsonl(folder / "rows.jsonl", toy_rows(N_ROWS))
    config = toy_config(model, data, registry={"name": NAME}, retrain={"min_new_rows": 5})
    write_deployments(folder, config.model_dump(mode="json"))
    prefect_port, mlflow_port = free_port(), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = kept | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        "SFT_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    ports = ("--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port))
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        try:
            command(environment, folder, "sft-flow", "up", *ports)
            server = Server(environment["PREFECT_API_URL"], environment)
            yield Place(server, folder, data, receiver)
        finally:
            command(environment, folder, "sft-flow", "down")
            receiver.shutdown()


def test_schedule_promotes_then_skips_then_refuses_and_notifies(place: Place) -> None:
    environment = place.server.environment
    command(environment, place.folder, "sft-flow", "notify", "--webhook", place.receiver.address)
    command(environment, place.folder, "prefect", "deploy", "--all")

    runs = place.finished_runs(2)
    assert [run["state"]["name"] for run in runs] == ["Completed"] * len(runs)
    assert runs[0]["auto_scheduled"]
    status = command(environment, place.folder, "sft-flow", "status", NAME, "--json")
    assert json.loads(status)["holders"]["champion"] == 1
    place.wait_for_skip("the rows are those of version 1")

    write_jsonl(place.data, toy_rows(N_ROWS) + BROKEN)
    refused = place.first_run_after(len(runs), lambda run: run["state"]["name"] != "Completed")
    assert (refused["state"]["type"], refused["state"]["name"]) == ("FAILED", "Rejected")
    assert "bad_row_fraction" in refused["state"]["message"]
    place.wait_for_skip("these rows were rejected at")

    told = place.receiver.wait_for(2)
    assert sorted(message["event"] for message in told) == [
        "sft-flow.data.rejected",
        "sft-flow.model.promoted",
    ]
    assert {message["name"] for message in told} == {NAME}


def skips(server: Server) -> list[str]:
    """Collect the reasons of the runs that did not train."""
    wanted = {"filter": {"event": {"name": ["sft-flow.retrain.skipped"]}}, "limit": 50}
    return [event["payload"]["reason"] for event in server.ask("/events/filter", wanted)["events"]]
