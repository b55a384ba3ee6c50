"""Runs of MLflow that a killed process left RUNNING are closed by the next one."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from schemas.config.registry import RegistryConfig
from tasks.check_environment import check_registry
from tasks.registry.open_runs import OpenRun, close_left_runs, open_runs_folder
from tasks.registry.store import connect, experiment_id
from tasks.registry.tags import ERROR_TAG
from tasks.release.registration import discard_left_runs, registering

pytestmark = pytest.mark.integration

HOLD = """
import sys, time
from tasks.registry.open_runs import OpenRun
held = OpenRun(sys.argv[1])
print("open", flush=True)
time.sleep(600)
"""


def left_notes() -> list[Path]:
    return list(open_runs_folder().glob("*.json"))


@pytest.fixture
def client(mlflow_home: Path) -> Any:
    return connect()


@pytest.fixture
def run_id(client: Any) -> str:
    return str(client.create_run(experiment_id(client, "sft-flow")).info.run_id)


@pytest.fixture
def holder(run_id: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the run."""
    command = [sys.executable, "-c", HOLD, run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_run_of_a_killed_process_is_closed_and_that_of_a_living_one_is_not(
    client: Any, run_id: str, holder: subprocess.Popen[str]
) -> None:
    foreign = client.create_run(experiment_id(client, "sft-flow")).info.run_id
    assert close_left_runs(client) == []
    assert client.get_run(run_id).info.status == "RUNNING"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert close_left_runs(client) == [run_id]
    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert "was killed" in run.data.tags[ERROR_TAG]
    assert client.get_run(foreign).info.status == "RUNNING"
    assert left_notes() == []
    assert list(open_runs_folder().iterdir()) == []
    assert close_left_runs(client) == []


def test_next_training_closes_what_is_left(client: Any, run_id: str) -> None:
    OpenRun(run_id).leave()
    with disable_run_logger():
        check_registry.fn(RegistryConfig(name="toy"))
    assert client.get_run(run_id).info.status == "KILLED"


def test_run_that_ended_keeps_its_status(client: Any, run_id: str) -> None:
    held = OpenRun(run_id)
    client.set_terminated(run_id, "FINISHED")
    held.leave()  # killed between the two calls
    assert close_left_runs(client) == []
    assert client.get_run(run_id).info.status == "FINISHED"
    assert left_notes() == []


def test_run_whose_end_did_not_reach_the_store_is_closed_later(client: Any, run_id: str) -> None:
    OpenRun(run_id).leave()
    assert left_notes() != []
    assert close_left_runs(client) == [run_id]


def test_run_can_be_opened_again(client: Any, run_id: str) -> None:
    for _ in range(2):
        OpenRun(run_id).close()
    OpenRun(run_id).leave()
    held = OpenRun(run_id)
    assert close_left_runs(client) == []
    held.close()
    assert left_notes() == []


def test_notes_that_mean_nothing_are_removed(client: Any, run_id: str) -> None:
    OpenRun("0" * 32).leave()  # deleted for good
    (open_runs_folder() / "torn.json").write_text('{"run_id": "')
    assert close_left_runs(client) == []
    assert left_notes() == []


def test_run_of_another_store_waits_for_it(
    client: Any, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        OpenRun(run_id).leave()
    assert close_left_runs(client) == []
    assert client.get_run(run_id).info.status == "RUNNING"
    assert left_notes() != []


def test_registrations_of_killed_processes_are_discarded(client: Any, run_id: str) -> None:
    living = client.create_run(experiment_id(client, "sft-flow")).info.run_id
    with registering(client, "b" * 64) as note:
        note.write_text(living)
        killed = note.with_name(note.name.replace("b" * 64, "a" * 64))
        killed.write_text(run_id)
        discard_left_runs(client)
        assert client.get_run(run_id).info.lifecycle_stage == "deleted"
        assert client.get_run(living).info.lifecycle_stage == "active"
        assert note.is_file()
        assert not killed.exists()
    assert list(note.parent.iterdir()) == []  # nor a lock


def leave_registration(client: Any, run_id: str) -> Path:
    """Leave what a process does that is killed while it registers."""
    with suppress(KeyboardInterrupt), registering(client, "c" * 64) as note:
        note.write_text(run_id)
        raise KeyboardInterrupt
    return note


def test_registration_in_another_store_waits_for_it(
    client: Any, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = leave_registration(client, run_id)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        discard_left_runs(connect())
        with registering(connect(), "c" * 64):
            pass
    assert note.read_text() == run_id
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    discard_left_runs(connect())
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    assert list(note.parent.iterdir()) == []


def test_left_runs_that_may_not_be_changed_end_no_run(
    client: Any,
    run_id: str,
    mlflow_home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    note = leave_registration(client, run_id)
    OpenRun(run_id).leave()
    with sqlite3.connect(mlflow_home / "mlflow.db") as database:  # as a user who may only add
        database.execute(
            "CREATE TRIGGER deny_runs BEFORE UPDATE ON runs "
            "BEGIN SELECT RAISE(ABORT, 'permission denied for table runs'); END"
        )
    with disable_run_logger():
        check_registry.fn(RegistryConfig(name="toy"))
        with registering(client, "c" * 64):
            pass
    assert f"run {run_id} of a killed process cannot be closed" in caplog.text
    assert f"run {run_id} of a killed registration cannot be deleted" in caplog.text
    assert [one.stem for one in left_notes()] == [run_id]
    left = [path.read_text() for path in note.parent.iterdir() if not path.suffix]
    assert left == [run_id]
