"""The whole flow against what a team runs: PostgreSQL, an S3 store, Prefect and MLflow servers."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.retrain_model import retrain_model
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.records.decision import Decision
from schemas.records.references import ReportReference, RetrainDecision, RetrainReason
from schemas.records.stages import Stage
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tests.integration.conftest import N_ROWS, toy_config
from tests.services.start import BUCKET, Services, connect_s3, missing_parts, running_services
from tests.support.documentation import ROOT, blocks
from tests.support.parts import Part
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = [
    pytest.mark.integration,
    pytest.mark.services,
    Part("the services", missing_parts(), not missing_parts()).mark,
]

STOP_SECONDS = 60


@dataclass
class TeamRun:
    """One finished run against the services."""

    services: Services
    home: Path
    config: RunConfig
    report: ReportReference
    flow_run_id: str

    def ask_mlflow(self, path: str) -> Any:
        """Put one question to MLflow's HTTP API."""
        with urllib.request.urlopen(f"{self.services.mlflow}/api/2.0/mlflow/{path}") as answer:
            return json.load(answer)

    def query_prefect(self, statement: str) -> list[tuple[Any, ...]]:
        """Read from Prefect's database."""
        import psycopg2

        address = f"postgresql://{self.services.postgresql}/prefect"
        with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


@pytest.fixture(scope="module")
def team_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamRun]:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    root = tmp_path_factory.mktemp("services")
    model = make_toy_model(root / "model")
    config = toy_config(model, write_jsonl(root / "rows.jsonl", toy_rows(N_ROWS)))
    with running_services(root) as services, pytest.MonkeyPatch.context() as patch:
        for name, value in services.settings().items():
            patch.setenv(name, value)
        patch.setenv("SFT_HOME", str(root / "home"))
        with temporary_settings({PREFECT_API_URL: services.prefect.address}):
            report = train_sft(config)
            flow_run_id = last_flow_run_id() or ""
            yield TeamRun(services, root / "home", config, report, flow_run_id)


@pytest.fixture(autouse=True)
def _home(team_run: TeamRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(team_run.home))


def test_run_promotes_on_the_mlflow_server(team_run: TeamRun) -> None:
    assert team_run.report.decision is Decision.PROMOTE, team_run.report.reason
    found = team_run.ask_mlflow("registered-models/alias?name=toy&alias=champion")
    assert found["model_version"]["version"] == "1"
    assert not (team_run.home / "mlflow.db").exists()
    assert not (team_run.home / "artifacts").exists()


def test_artefacts_lie_in_the_bucket(team_run: TeamRun) -> None:
    pages = connect_s3(team_run.services.s3).get_paginator("list_objects_v2")
    sizes = {
        stored["Key"].rsplit("/", 1)[-1]: stored["Size"]
        for page in pages.paginate(Bucket=BUCKET, Prefix="mlflow/")
        for stored in page["Contents"]
    }
    expected = {"model.safetensors", "tokenizer.json", "MLmodel", "config.yaml", "report.html"}
    assert expected <= set(sizes)
    page = locate(team_run.report, "report.html")
    assert sizes["report.html"] == page.stat().st_size


def test_champion_is_loaded_from_the_bucket(team_run: TeamRun) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model("models:/toy@champion")
    question = {"messages": [{"role": "user", "content": "What colour?"}], "max_tokens": 5}
    assert model.predict(question)[0]["choices"][0]["message"]["role"] == "assistant"


def test_run_is_recorded_in_postgresql(team_run: TeamRun) -> None:
    of_run = f"'{team_run.flow_run_id}'"
    runs = team_run.query_prefect(f"select state_type from flow_run where id = {of_run}")  # noqa: S608
    assert runs == [("COMPLETED",)]
    keys = team_run.query_prefect(f"select key from artifact where flow_run_id = {of_run}")  # noqa: S608
    assert {("toy-report",), ("toy-gates",), ("toy-version",)} <= set(keys)


def test_second_run_says_hit_everywhere(team_run: TeamRun) -> None:
    train_sft(team_run.config)
    entries = read_entries(last_flow_run_id() or "")
    assert [(entry.stage, entry.event) for entry in entries] == [
        (stage.value, "HIT") for stage in Stage
    ]


def test_retrain_skips_what_the_registry_knows(team_run: TeamRun) -> None:
    decision = retrain_model(team_run.config)
    assert isinstance(decision, RetrainDecision)
    assert decision.reason is RetrainReason.NOTHING
    assert decision.detail == "the rows are those of version 1"


def test_services_start_for_a_person_and_stop_with_ctrl_c() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    ((program, *arguments),) = [
        shlex.split(line)
        for line in "".join(blocks(page, "sh")).splitlines()
        if line.endswith("tests.services.start")
    ]
    assert program == ".venv/bin/python"
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    with process.stdout as output:
        lines = [output.readline() for _ in range(3)]
        assert lines[0].startswith("export PREFECT_API_URL=http://127.0.0.1:")
        assert lines[1].startswith("export MLFLOW_TRACKING_URI=http://127.0.0.1:")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert output.read() == "stopped\n"
    assert process.wait(STOP_SECONDS) == 0
    assert [child for child in children if child.is_running()] == []
