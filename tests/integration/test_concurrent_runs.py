"""Eight runs at once on one Prefect server whose store is SQLite: none is lost, no lock is reported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prefect_server import Server, running_server

pytestmark = pytest.mark.integration

N_RUNS = 8
N_STAGES = 14
RUN_SECONDS = 300
PROGRAM = f"""
import sys
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.logging import get_run_logger

@task
def stage(number):
    get_run_logger().info("stage %s", number)
    emit_event("sft-flow.test.stage", resource={{"prefect.resource.id": f"sft-flow.{{number}}"}})
    create_markdown_artifact(f"stage {{number}}", key=f"stage-{{number}}")

@flow
def small():
    for number in range({N_STAGES}):
        stage(number)

print("ready", flush=True)
sys.stdin.readline()
small()
"""
"""Writes what our stages write: states, logs, events and artifacts that all runs share."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path) as found:
        yield found


def start(server: Server) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=server.environment,
    )


def test_eight_runs_at_once_all_complete_without_a_word_about_locks(
    server: Server, tmp_path: Path
) -> None:
    runs = [start(server) for _ in range(N_RUNS)]
    try:
        for run in runs:
            assert run.stdout
            assert run.stdout.readline() == "ready\n"
        for run in runs:
            assert run.stdin
            run.stdin.write("\n")
            run.stdin.flush()
        logs = [run.communicate(timeout=RUN_SECONDS)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert [run.returncode for run in runs] == [0] * N_RUNS, logs
    logs.append((tmp_path / "server.log").read_text(encoding="utf-8"))
    for words in ("locked", "Traceback", "Retry"):
        assert [log for log in logs if words in log] == []
    states = [found["state_type"] for found in server.ask("/flow_runs/filter", {})]
    assert states == ["COMPLETED"] * N_RUNS
    artifacts = server.ask("/artifacts/latest/filter", {})
    assert {found["key"] for found in artifacts} == {f"stage-{n}" for n in range(N_STAGES)}
    assert server.ask("/artifacts/count", {}) == N_RUNS * N_STAGES
