"""A real Prefect server, a real MLflow store and one finished toy run, shared by the tests here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import RunConfig
from schemas.records.references import ReportReference, StageReference
from tasks.engine.keys import StageDefinition
from tasks.engine.stage import PLAN, Plan
from tasks.release.reload import check
from tasks.training import launch
from tests.support.toy import make_toy_model, toy_rows, write_jsonl
from tests.support.warm import WarmProcesses

N_ROWS = 160


def toy_config(model: Path, data: Path, **overrides: Any) -> RunConfig:
    """Make a configuration that trains the toy model in seconds and to a real gain."""
    settings: dict[str, Any] = {
        "data": {"source": {"source": str(data)}},
        "split": {"eval_fraction": 0.15},
        "model": {"source": str(model)},
        "quality": {"max_length_tokens": 256},
        "training": {
            "max_steps": 30,
            "learning_rate": 0.01,
            "per_device_train_batch_size": 4,
            "packing_length_tokens": 128,
            "save_steps": 10,
        },
        "evaluation": {"n_generation_rows": 4, "max_new_tokens": 8},
        "gates": {"min_eval_rows": 10},
        "registry": {"name": "toy"},
    }
    return RunConfig.model_validate(settings | overrides)


@dataclass
class ToyRun:
    """One finished run, and what is needed to repeat it."""

    home: Path
    model: Path
    data: Path
    config: RunConfig
    report: ReportReference


@dataclass
class Recorder(Plan):
    """A plan that remembers how each stage was called."""

    calls: dict[str, tuple[StageDefinition, dict[str, Any]]] = field(default_factory=dict)

    def visit(self, definition: StageDefinition, arguments: Mapping[str, Any]) -> StageReference:
        """Remember the call and answer from the cache."""
        self.calls[definition.name] = (definition, dict(arguments))
        return super().visit(definition, arguments)


def record_calls(config: RunConfig) -> dict[str, tuple[StageDefinition, dict[str, Any]]]:
    """Walk through a finished run and return how each stage was called."""
    from flows.train_sft import train_sft

    recorder = Recorder(refresh=frozenset())
    token = PLAN.set(recorder)
    try:
        train_sft.fn(config)
    finally:
        PLAN.reset(token)
    return recorder.calls


@pytest.fixture(scope="session")
def warm_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmProcesses]:
    """Fork processes of the product from one that has imported what they need."""
    warm = WarmProcesses(tmp_path_factory.mktemp("warm"))
    yield warm
    warm.stop()


@pytest.fixture(scope="module", autouse=True)
def _warm(warm_processes: WarmProcesses) -> Iterator[None]:
    """Let all tests use them, and what a file prepares; `finished_run` tries the real command."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (launch, check):
            patch.setattr(module, "subprocess", warm_processes)
        yield


@pytest.fixture(autouse=True)
def _real(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the real command back to the tests that are about processes."""
    if request.node.get_closest_marker("real_processes"):
        start_real_processes(monkeypatch)


def start_real_processes(patch: pytest.MonkeyPatch) -> None:
    """Start processes as the product does from now on."""
    for module in (launch, check):
        patch.setattr(module, "subprocess", subprocess)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start Prefect's own test server on a database of its own."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def finished_run(
    prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ToyRun]:
    """Run the whole flow once on prompt/completion rows."""
    from flows.train_sft import train_sft

    root = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(root / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        start_real_processes(patch)
        model = make_toy_model(root / "model")
        data = write_jsonl(root / "rows.jsonl", toy_rows(N_ROWS))
        config = toy_config(model, data)
        yield ToyRun(root / "home", model, data, config, train_sft(config))


@pytest.fixture
def toy_run(finished_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> ToyRun:
    """Point the process at the finished run's work directory."""
    monkeypatch.setenv("SFT_HOME", str(finished_run.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    os.environ.pop("MLFLOW_RUN_ID", None)
    return finished_run


@pytest.fixture(scope="session")
def empty_mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty MLflow store once; a copy of it is there at once, a new one takes seconds."""
    from tasks.registry.store import connect

    home = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect().search_experiments()
    return home / "mlflow.db"


@pytest.fixture
def mlflow_home(work_folder: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an empty MLflow store into the test's work directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    work_folder.mkdir()
    shutil.copy(empty_mlflow_db, work_folder)
    return work_folder
