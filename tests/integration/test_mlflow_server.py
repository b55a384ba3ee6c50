"""The flow over HTTP, as a team has it: an MLflow server that keeps files and rows."""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import flows.cli.export as export_command
from flows.cli.main import main
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.records.decision import Decision
from schemas.records.references import ReportReference
from tasks.engine.cache import locate
from tasks.registry.store import alias_holder, connect, has_model_files
from tasks.registry.tags import WEIGHTS_TAG
from tasks.release.retention import prune_unpromoted
from tasks.report._artifacts import mlflow_links
from tests.integration.conftest import ToyRun
from tests.support.evidence import CONFIG, decide_again, make_evidence, register
from tests.support.mlflow_server import running_mlflow

pytestmark = pytest.mark.integration

NAME = "toy-remote"


@dataclass
class RemoteRun:
    """One finished run whose registry is a server."""

    server: str
    files: Path
    """Where the server keeps artefacts."""
    reference: ReportReference
    report: dict[str, Any]
    left: set[str]
    """What the run left in the folder for temporary files."""


@pytest.fixture(scope="module")
def remote_run(
    finished_run: ToyRun, empty_mlflow_db: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteRun]:
    """Train anew, so that its live figures go to the server too; the data are in the cache."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    shutil.copy(empty_mlflow_db, folder)
    settings = finished_run.config.model_dump(mode="json")
    settings["registry"]["name"] = NAME
    settings["training"]["max_steps"] = 12
    store, files = f"sqlite:///{folder}/mlflow.db", folder / "artifacts"
    (temporary := folder / "temporary").mkdir()
    with running_mlflow(folder, store, str(files), {}) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SFT_HOME", str(finished_run.home))
            patch.setenv("MLFLOW_TRACKING_URI", server)
            patch.setenv("TMPDIR", str(temporary))
            patch.setattr(tempfile, "tempdir", None)
            reference = train_sft(RunConfig.model_validate(settings))
            report = json.loads(locate(reference, "report.json").read_text(encoding="utf-8"))
        left = {path.name for path in temporary.iterdir()}
        yield RemoteRun(server, files, reference, report, left)


@pytest.fixture(autouse=True)
def home(remote_run: RemoteRun, toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", remote_run.server)
    return toy_run.home


def test_run_registers_and_promotes_on_the_server(remote_run: RemoteRun) -> None:
    assert remote_run.reference.decision is Decision.PROMOTE, remote_run.reference.reason
    assert remote_run.report["registry"]["tracking_uri"] == remote_run.server
    client = connect()
    assert alias_holder(client, NAME, "champion") == 1
    assert has_model_files(client, remote_run.report["registry"]["model_uri"])
    stored = {path.name for path in remote_run.files.rglob("*") if path.is_file()}
    assert {"model.safetensors", "MLmodel", "report.html"} <= stored


def test_no_temporary_file_is_left(remote_run: RemoteRun) -> None:
    assert remote_run.left == set()


def test_training_is_a_run_of_its_own_on_the_server(remote_run: RemoteRun) -> None:
    client = connect()
    experiment = client.get_experiment_by_name("sft-flow")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`sft.stage` = 'train_model'")
    assert run.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps[-1] == 12


def test_links_of_the_report_open(remote_run: RemoteRun) -> None:
    links = mlflow_links(remote_run.report)
    for address in links.values():
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200
    # The server has one page, which reads what to show from the part after the #.
    shown = remote_run.report["registry"]
    run = connect().get_run(shown["run_id"])
    place = f"{remote_run.server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert (links["run"], links["page"]) == (place, f"{place}/artifacts/report.html")
    raw = f"{remote_run.server}/get-artifact?path=report.html&run_uuid={run.info.run_id}"
    with urllib.request.urlopen(raw, timeout=30) as answer:
        assert answer.read() == locate(remote_run.reference, "report.html").read_bytes()


def test_status_and_export_read_from_the_server(
    remote_run: RemoteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_command, "quiet_libraries", lambda: None)
    shown = CliRunner().invoke(main, ["status", NAME, "--json"])
    assert json.loads(shown.stdout)["holders"]["champion"] == 1
    target = tmp_path / "exported"
    done = CliRunner().invoke(main, ["export", f"{NAME}/1", str(target)])
    assert done.exit_code == 0, done.output
    names = {path.name for path in target.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "sft_flow.json"} <= names


def test_weights_of_refused_versions_are_deleted_on_the_server(
    remote_run: RemoteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    monkeypatch.setattr("tasks.registry.lease.SETTLE_SECONDS", 0.05)
    versions = []
    for seed in (1, 2):
        evidence = make_evidence(tmp_path, seed=seed)
        evidence = decide_again(evidence, tmp_path, Decision.REFUSE, None)
        versions.append(register(evidence))
    client = connect()
    pruned = prune_unpromoted(client, CONFIG.registry, pytest.fail)
    assert pruned.versions == (1,)
    assert pruned.freed_bytes > 0
    assert [has_model_files(client, one.model_uri) for one in versions] == [False, True]
    first = client.get_model_version("toy", str(versions[0].version))
    assert first.tags[WEIGHTS_TAG] == "deleted"
