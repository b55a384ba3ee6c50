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
from tasks.registry import lease
from tasks.registry.store import connect
from tasks.release import promotion
from tasks.release.reload import check
from tasks.training import launch
from tests.support.evidence import make_evidence, register
from tests.support.promotions import Candidates
from tests.support.toy import TOY_SETTINGS, make_toy_model, toy_rows, write_jsonl
from tests.support.warm import WarmProcesses

N_ROWS = 160


def toy_config(model: Path, data: Path, **overrides: Any) -> RunConfig:
    """Make a configuration that trains the toy model in seconds and to a real gain."""
    sources = {"data": {"source": {"source": str(data)}}, "model": {"source": str(model)}}
    return RunConfig.model_validate(TOY_SETTINGS | sources | overrides)


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
    from mlflow.tracking._tracking_service import utils

    # MLflow remembers by id where artifacts are, and a test may have read those of a copy.
    utils._artifact_repos_cache.clear()
    monkeypatch.setenv("SFT_HOME", str(finished_run.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    os.environ.pop("MLFLOW_RUN_ID", None)
    return finished_run


@pytest.fixture(scope="session")
def empty_mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty MLflow store once; a copy of it is there at once, a new one takes seconds."""
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


@pytest.fixture
def toy_client(mlflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open a store with the name "toy", whose lease is quick to take."""
    monkeypatch.setattr(lease, "SQLITE_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    client = connect()
    client.create_registered_model("toy")
    return client


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> Candidates:
    """Register two evaluated toy models in a store of their own."""
    home = tmp_path_factory.mktemp("promotion")
    store = tmp_path_factory.mktemp("store")
    shutil.copy(empty_mlflow_db, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
        connect().create_experiment("sft-flow", artifact_location=(store / "artifacts").as_uri())
        evidence = (make_evidence(home, seed=0), make_evidence(home, seed=1))
        versions = (register(evidence[0]), register(evidence[1]))
    return Candidates(store, evidence, versions)


@pytest.fixture
def candidates(
    registered: Candidates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Candidates]:
    """Give the candidates, with no alias and a work directory of the test's own."""
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.home}/mlflow.db")
    monkeypatch.setattr("tasks.registry.lease.SQLITE_SETTLE_SECONDS", 0.05)
    client = connect()
    yield registered
    for alias in client.get_registered_model("toy").aliases:
        client.delete_registered_model_alias("toy", alias)
    for number in "12":
        for tag in client.get_model_version("toy", number).tags:
            if tag.startswith(("sft.promot", "sft.rolled")):
                client.delete_model_version_tag("toy", number, tag)


@pytest.fixture
def trusted(candidates: Candidates, monkeypatch: pytest.MonkeyPatch) -> Candidates:
    """Give the candidates, whose files are not loaded again: that takes ten seconds each time."""
    monkeypatch.setattr(promotion, "check_reload", lambda *_: None)
    return candidates
