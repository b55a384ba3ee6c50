"""Artefacts, events and notifications on a real Prefect server, with a webhook that is called."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from prefect.events.schemas.automations import EventTrigger
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli.main import main
from flows.services.prefect_api import api_client
from flows.services.stuck_runs import AUTOMATION, find_dead_runs, silence_limit, watch_heartbeats
from tests.support.prefect_events import REASON, REJECTED, SKIPPED
from tests.support.prefect_server import ROOT, Server, running_server
from tests.support.webhook import Receiver

ALL = {"promoted", "refused", "rejected", "skipped", "failed"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("notify")) as found:
        yield found


def notify(server: Server, *arguments: str) -> list[dict[str, Any]]:
    with temporary_settings({PREFECT_API_URL: server.address}):
        done = CliRunner().invoke(main, ["notify", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def told(server: Server, receiver: Receiver) -> dict[str, dict[str, Any]]:
    """Subscribe twice, let the flows speak, and collect what the webhook got."""
    on = ("--on", "refused", "--on", "skipped")
    first = notify(server, "--webhook", receiver.address, *on)
    again = notify(server, "--webhook", receiver.address, *on)
    assert [one["change"] for one in first] == ["created"] * 5
    assert [one["change"] for one in again] == ["updated"] * 5
    server.python("-m", "tests.support.prefect_events")
    got = receiver.wait_for(len(ALL))
    assert Counter(one["occasion"] for one in got) == Counter(ALL)
    return {one["occasion"]: one for one in got}


def test_webhook_gets_the_new_champion_once(told: dict[str, dict[str, Any]]) -> None:
    message = told["promoted"]
    assert (message["event"], message["name"]) == ("sft-flow.model.promoted", "toy")
    assert (message["version"], message["reason"]) == (1, REASON)
    page = "http://mlflow:5000/#/experiments/1/runs/r/artifacts/report.html"
    assert message["report"] == page
    assert message["link"].endswith(f"/runs/flow-run/{message['flow_run_id']}")
    assert message["text"].startswith("toy: version 1 is champion\n")


def test_webhook_gets_the_refusal_the_skip_and_their_reasons(
    told: dict[str, dict[str, Any]],
) -> None:
    assert told["refused"]["text"].startswith("toy: version 1 was refused\n")
    assert (told["skipped"]["reason"], told["skipped"]["version"]) == (SKIPPED.detail, 1)


def test_webhook_gets_refused_data_and_no_failed_run_for_the_same(
    told: dict[str, dict[str, Any]],
) -> None:
    message = told["rejected"]
    assert (message["reason"], message["fix"]) == (REJECTED.what, REJECTED.fix)
    assert message["version"] is None
    assert told["failed"]["flow_run_id"] != message["flow_run_id"]


def test_webhook_gets_the_failed_run(told: dict[str, dict[str, Any]]) -> None:
    message = told["failed"]
    assert (message["event"], message["name"]) == ("prefect.flow-run.Failed", "toy")
    assert "the loss became NaN" in message["reason"]
    assert message["link"].endswith(f"/runs/flow-run/{message['flow_run_id']}")


def test_artefacts_keep_their_keys_from_run_to_run(
    told: dict[str, dict[str, Any]], server: Server
) -> None:
    every = Counter(one["key"] for one in server.ask("/artifacts/filter", {}))
    latest = Counter(one["key"] for one in server.ask("/artifacts/latest/filter", {}))
    names = ("report", "gates", "rules", "metrics", "loss", "page", "version", "run")
    assert {name: every[f"toy-{name}"] for name in names} == dict.fromkeys(names, 3)
    assert {name: latest[f"toy-{name}"] for name in names} == dict.fromkeys(names, 1)
    assert every["toy-rejection"] == 1


def test_every_run_has_one_progress_bar(told: dict[str, dict[str, Any]], server: Server) -> None:
    key = {"artifacts": {"key": {"any_": ["toy-progress"]}}, "sort": "CREATED_DESC"}
    bars = [(one["data"], one["description"]) for one in server.ask("/artifacts/filter", key)]
    # 6 of 13 stages were done when training failed.
    assert (pytest.approx(600 / 13), "stopped at train_model, 7 of 13") in bars
    assert Counter(bars)[(100.0, "done")] == 3
    assert (100.0, SKIPPED.detail) in bars
    assert len(bars) == 5


SILENT = timedelta(seconds=10)
KILLED = """
import os, signal, sys, time
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Paused
from flows.services.stuck_runs import last_heartbeat

name = sys.argv[1]

@flow(name="retrain", flow_run_name=name)
def retrain():
    with get_client(sync_client=True) as client:
        while not last_heartbeat(client, client.read_flow_run(flow_run.id)):
            time.sleep(0.2)
        if name == "waiting":
            client.set_flow_run_state(flow_run.id, Paused(timeout_seconds=3600))
    os.kill(os.getpid(), signal.SIGKILL)

retrain()
"""


def test_run_whose_machine_died_is_shown_marked_crashed_and_told(
    told: dict[str, dict[str, Any]], server: Server, receiver: Receiver
) -> None:
    with api_client(server.address) as client:
        (automation,) = client.read_automations_by_name(AUTOMATION)
        assert isinstance(automation.trigger, EventTrigger)
        assert automation.trigger.within == silence_limit()
        watch_heartbeats(client, SILENT)
        for number, name in enumerate(("night", "waiting"), start=1):
            command = [sys.executable, "-c", KILLED, name]
            killed = subprocess.run(command, env=server.environment, check=False, cwd=ROOT)
            assert killed.returncode == -signal.SIGKILL
            assert [run.name for run in find_dead_runs(client, timedelta())] == [name]
            assert find_dead_runs(client) == []
            message = receiver.wait_for(len(ALL) + number)[-1]
            assert find_dead_runs(client, timedelta()) == []
            assert (message["event"], message["name"]) == ("prefect.flow-run.Crashed", name)
            assert message["reason"].startswith("no heartbeat for 10 s")


def test_notify_with_less_takes_the_rest_away(
    told: dict[str, dict[str, Any]], server: Server, receiver: Receiver
) -> None:
    changes = notify(server, "--slack", receiver.address)
    assert [(one["occasion"], one["change"]) for one in changes] == [
        ("failed", "updated"),
        ("rejected", "updated"),
        ("promoted", "updated"),
        ("refused", "removed"),
        ("skipped", "removed"),
    ]


def test_remove_takes_away_what_notify_made(
    told: dict[str, dict[str, Any]], server: Server
) -> None:
    listed, removed = notify(server, "--list"), notify(server, "--remove")
    assert {one["change"] for one in listed} == {"active"}
    assert removed == [{**one, "change": "removed"} for one in listed]
    assert notify(server, "--list") == notify(server, "--remove") == []
    assert server.ask("/automations/filter", {}) == []
    assert server.ask("/block_documents/filter", {}) == []
