"""Registering against a real store: one version per result, whatever is interrupted or repeated."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryError
from schemas.records.decision import Decision
from schemas.records.references import Evidence
from tasks import register_model as stage
from tasks.register_model import verify_version
from tasks.registry.lineage import version_fingerprint
from tasks.registry.store import (
    connect,
    create_version,
    experiment_id,
    find_version,
    has_model_files,
)
from tasks.registry.tags import ADAPTER_FOLDER, WEIGHTS_TAG
from tasks.release.retention import delete_model_files, prune_unpromoted
from tests.support.evidence import CONFIG, decide_again, make_evidence, register

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evidence]:
    home = tmp_path_factory.mktemp("registering")
    return home, make_evidence(home)


@pytest.fixture
def judged(
    evidence: tuple[Path, Evidence],
    empty_mlflow_db: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Evidence:
    """The evidence, and a store of the test's own."""
    shutil.copy(empty_mlflow_db, tmp_path)
    monkeypatch.setenv("SFT_HOME", str(evidence[0]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = connect()
    client.create_experiment("sft-flow", artifact_location=(tmp_path / "artifacts").as_uri())
    return evidence[1]


def versions() -> list[Any]:
    return list(connect().search_model_versions("name = 'toy'"))


def active_runs() -> list[Any]:
    client = connect()
    return list(client.search_runs([experiment_id(client, "sft-flow")]))


def model_folders(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "artifacts/models").glob("*/artifacts"))


def test_a_version_says_where_it_comes_from(judged: Evidence) -> None:
    reference = register(judged)
    client = connect()
    version = client.get_model_version("toy", str(reference.version))
    expected = {
        "sft.decision": "promote",
        "sft.dataset_sha256": "d" * 64,
        "sft.train_rows": "2",
        "sft.eval_rows": "6",
        "sft.quarantined_rows": "1",
        "sft.eval_sha256": "f" * 64,
        "sft.template_sha256": judged.template.template_sha256,
        "sft.base_model": "base-model",
        "sft.champion_version": "none",
        "sft.metric.challenger.loss": "2.0",
        "sft.metric.base.loss": "3.0",
        "sft.gates": f"runs:/{reference.run_id}/gates.json",
    }
    assert expected.items() <= version.tags.items()
    found = client.search_model_versions("tags.`sft.metric.challenger.loss` = '2.0'")
    assert [one.version for one in found] == [version.version]
    assert version.description.startswith("# toy\n")
    run = client.get_run(reference.run_id)
    assert run.data.metrics["challenger/loss"] == 2.0
    assert run.data.metrics["base/loss"] == 3.0
    files = {file.path for file in client.list_artifacts(reference.run_id, "evaluation")}
    names = ("settings.json", "prompts.jsonl", "tokens.parquet", "answers.jsonl", "losses.jsonl")
    assert files == {f"evaluation/{name}" for name in names}
    top = {file.path for file in client.list_artifacts(reference.run_id)}
    assert {"gates.json", "config.yaml", "model_card", "data", "loss_curve.svg"} <= top


def test_another_decision_on_the_same_model_updates_its_version(
    judged: Evidence, evidence: tuple[Path, Evidence]
) -> None:
    first = register(judged)
    refused = decide_again(judged, evidence[0], Decision.REFUSE, 7)
    second = register(refused)
    assert (second.version, second.run_id) == (first.version, first.run_id)
    version = connect().get_model_version("toy", str(first.version))
    assert version.tags["sft.decision"] == "refuse"
    assert version.tags["sft.champion_version"] == "7"
    assert version.tags["sft.metric.champion.loss"] == "2.5"
    assert "**refuse**" in version.description
    assert verify_version(second) == ""
    assert "has another decision now" in verify_version(first)
    register(judged)
    version = connect().get_model_version("toy", str(first.version))
    assert "sft.metric.champion.loss" not in version.tags
    assert verify_version(first) == ""
    assert len(versions()) == 1


def test_what_no_gate_saw_is_not_registered(
    judged: Evidence, evidence: tuple[Path, Evidence]
) -> None:
    with pytest.raises(RegistryError, match="no gates ran, so nothing is registered"):
        register(decide_again(judged, evidence[0], Decision.SKIPPED, None))
    assert versions() == []


def fail_once(function: Callable[..., Any], *, is_after: bool) -> Callable[..., Any]:
    """Let a function fail at its first call, before or after its work."""
    calls: list[int] = []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1 and not is_after:
            raise KeyboardInterrupt
        result = function(*args, **kwargs)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return result

    return failing


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "step", ["log_training", "log_decision", "log_chat_model", "create_version"]
)
def test_a_registration_cut_short_leaves_one_whole_version(
    step: str, is_after: bool, judged: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, step, fail_once(getattr(stage, step), is_after=is_after))
    with pytest.raises(KeyboardInterrupt):
        register(judged)
    reference = register(judged)
    assert [int(one.version) for one in versions()] == [reference.version]
    assert verify_version(reference) == ""
    assert [run.info.run_id for run in active_runs()] == [reference.run_id]
    whole = [folder for folder in model_folders(tmp_path) if (folder / "MLmodel").exists()]
    assert len(whole) == 1
    leftovers = [folder for folder in model_folders(tmp_path) if folder not in whole]
    assert [list(folder.iterdir()) for folder in leftovers] == [[] for _ in leftovers]


def test_a_version_another_machine_made_first_is_taken_and_the_own_one_dropped(
    judged: Evidence,
    evidence: tuple[Path, Evidence],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = decide_again(judged, evidence[0], Decision.REFUSE, 7)

    def create_late(client: Any, name: str, source: Any, tags: Any, description: str) -> int:
        monkeypatch.setattr(stage, "create_version", create_version)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(stage, "registering", lambda *_: _NoLock(tmp_path / "note"))
            others.append(register(refused))
        return create_version(client, name, source, tags, description)

    others: list[Any] = []
    monkeypatch.setattr(stage, "create_version", create_late)
    import mlflow

    start_run = mlflow.start_run
    monkeypatch.setattr(mlflow, "start_run", lambda **given: start_run(**given, nested=True))
    reference = register(judged)
    assert reference.run_id == others[0].run_id
    version = connect().get_model_version("toy", str(reference.version))
    assert version.tags["sft.decision"] == "promote"
    assert [int(one.version) for one in versions()] == [reference.version]
    assert [run.info.run_id for run in active_runs()] == [reference.run_id]


class _NoLock:
    """What another machine's lock is to this one."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def __enter__(self) -> Path:
        return self.note

    def __exit__(self, *_: object) -> None:
        self.note.unlink(missing_ok=True)


def test_two_processes_that_register_the_same_result_make_one_version(
    judged: Evidence, evidence: tuple[Path, Evidence]
) -> None:
    """Each with a decision of its own: the same call is kept apart by the stage's own lock."""
    refused = decide_again(judged, evidence[0], Decision.REFUSE, 7)

    def run(one: Evidence) -> str:
        command = [sys.executable, "-m", "tests.support.evidence"]
        text = one.model_dump_json()
        done = subprocess.run(
            command, cwd=ROOT, input=text, capture_output=True, text=True, check=True
        )
        return done.stdout.strip().splitlines()[-1]

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(run, (judged, refused))) == ["1", "1"]
    assert len(versions()) == 1
    assert len(active_runs()) == 1


def test_files_that_are_gone_are_put_back_into_the_same_version(judged: Evidence) -> None:
    first = register(judged)
    client = connect()
    delete_model_files(client, first.model_uri.rsplit("/", 1)[-1])
    assert verify_version(first) == f"the files of version {first.version} were deleted"
    assert register(judged) == first
    assert has_model_files(client, first.model_uri)
    assert verify_version(first) == ""


def test_a_refresh_puts_damaged_files_back(
    judged: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register(judged)
    (path,) = (tmp_path / "artifacts/models").glob("*/artifacts/model/model.safetensors")
    content = path.read_bytes()
    path.write_bytes(b"damaged")
    register(judged)
    assert path.read_bytes() == b"damaged"
    monkeypatch.setattr(stage, "is_refreshed", lambda _: True)
    assert register(judged) == first
    assert path.read_bytes() == content


def test_weights_that_were_given_up_come_back_only_with_a_promotion(
    judged: Evidence, evidence: tuple[Path, Evidence]
) -> None:
    adapter = evidence[0] / judged.trained.folder / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"adapter")
    try:
        refused = decide_again(judged, evidence[0], Decision.REFUSE, 7)
        first = register(refused)
        client = connect()
        keep_none = RegistryConfig(name="toy", keep_rejected=0)
        pruned = prune_unpromoted(client, keep_none, pytest.fail)
        assert pruned.versions == (first.version,)
        assert verify_version(first) == ""
        register(refused)
        assert not has_model_files(client, first.model_uri)
        assert client.list_artifacts(first.run_id, ADAPTER_FOLDER) == []
        promoted = register(judged)
        assert promoted.version == first.version
        assert has_model_files(client, first.model_uri)
        (file,) = client.list_artifacts(first.run_id, ADAPTER_FOLDER)
        assert file.path == "adapter/adapter_model.safetensors"
        assert WEIGHTS_TAG not in client.get_model_version("toy", str(first.version)).tags
    finally:
        shutil.rmtree(adapter)


def test_a_deleted_run_is_restored(judged: Evidence) -> None:
    first = register(judged)
    connect().delete_run(first.run_id)
    assert verify_version(first) == f"run {first.run_id} was deleted"
    assert register(judged) == first
    assert verify_version(first) == ""


def test_a_deleted_version_is_made_anew(judged: Evidence) -> None:
    first = register(judged)
    connect().delete_model_version("toy", str(first.version))
    assert "is no longer in the registry" in verify_version(first)
    second = register(judged)
    assert second.run_id != first.run_id
    fingerprint = version_fingerprint(CONFIG.registry.name, judged)
    found = find_version(connect(), "toy", fingerprint)
    assert found is not None
    assert found.version == second.version
