"""What would fail after a training is found before it, on real MLflow stores."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.doctor._run_needs import check_artifacts
from flows.doctor.finding import Health
from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryError, RegistryForbidden, SftFlowError
from tasks.registry import write_check
from tasks.registry.champion import ChampionData, read_champion_profile
from tasks.registry.retrain_reasons import find_evaluated
from tasks.registry.store import IGNORED_VARIABLES, connect, experiment_id, store_errors
from tasks.registry.write_check import check_writes
from tests.support.http_faults import Answer, refusing_server
from tests.support.mlflow_server import running_mlflow

pytestmark = pytest.mark.integration

REGISTRY = RegistryConfig(name="toy")


@pytest.fixture
def client(mlflow_home: Path) -> Any:
    return connect()


def test_check_leaves_no_trace_but_experiment_and_name(client: Any, mlflow_home: Path) -> None:
    assert check_writes(REGISTRY, is_training=False) == ""
    assert client.get_experiment_by_name("sft-flow") is None
    place = check_writes(REGISTRY, is_training=True)
    assert place.startswith((mlflow_home / "artifacts").as_uri())
    assert check_writes(REGISTRY, is_training=True) == place
    assert client.get_experiment_by_name("sft-flow").tags == {}
    assert client.get_registered_model("toy").tags == {}
    assert [path for path in (mlflow_home / "artifacts").rglob("*") if path.is_file()] == []
    assert client.search_runs([experiment_id(client, "sft-flow")]) == []


def test_deleted_experiment_is_named_with_the_command_that_restores_it(client: Any) -> None:
    number = experiment_id(client, "sft-flow")
    client.delete_experiment(number)
    with pytest.raises(RegistryError, match="was deleted") as caught:
        check_writes(REGISTRY, is_training=True)
    assert f"mlflow experiments restore --experiment-id {number}" in caught.value.fix
    finding = check_artifacts(REGISTRY)
    assert (finding.health, "restore" in finding.fix) == (Health.PROBLEM, True)
    client.restore_experiment(number)
    check_writes(REGISTRY, is_training=True)


def test_database_that_cannot_be_written_is_forbidden(
    client: Any, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writes(REGISTRY, is_training=True)
    read_only = mlflow_home / "read-only.db"
    shutil.copy(mlflow_home / "mlflow.db", read_only)
    with sqlite3.connect(read_only) as database:  # as a user without rights on these tables
        for table in ("experiment_tags", "registered_model_tags"):
            database.execute(
                f"CREATE TRIGGER deny_{table} BEFORE INSERT ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'permission denied for table'); END"
            )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{read_only}")
    with pytest.raises(RegistryForbidden, match="does not allow this"):
        check_writes(REGISTRY, is_training=True)


def test_artifact_root_that_cannot_be_written_is_forbidden(client: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    client.create_experiment("sft-flow", artifact_location=f"file://{tmp_path}/file/store")
    with pytest.raises(RegistryForbidden, match="artifact store cannot be written") as caught:
        check_writes(REGISTRY, is_training=True)
    assert f"{tmp_path}/file" in caught.value.where
    assert caught.value.exit_code == 2


def test_run_that_was_deleted_for_good_counts_as_not_known(client: Any, mlflow_home: Path) -> None:
    run_id = client.create_run(experiment_id(client, "sft-flow")).info.run_id
    client.create_registered_model("toy")
    client.create_model_version("toy", f"runs:/{run_id}/model", run_id=run_id)
    client.set_registered_model_alias("toy", "challenger", "1")
    with sqlite3.connect(mlflow_home / "mlflow.db") as database:  # as `mlflow gc` does
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (run_id,))
    found = find_evaluated(REGISTRY)
    assert found is not None
    assert (found.version, found.digests) == (1, None)
    assert read_champion_profile(ChampionData(1, run_id)) is None


def test_variables_of_mlflow_lead_no_run_and_no_version_elsewhere(
    mlflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    client = connect()
    other = client.create_experiment("other")
    foreign = client.create_run(other).info.run_id
    values = (foreign, other, "other", f"sqlite:///{tmp_path}/registry.db", "m-0", "true")
    for name, value in zip(IGNORED_VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    client = connect()
    number = experiment_id(client, "sft-flow")
    with mlflow.start_run(experiment_id=number, run_name="toy") as run:
        mlflow.log_params({"a": "b"})
        mlflow.log_metrics({"c": 1.0})
        assert client.get_run(run.info.run_id).data.params == {"a": "b"}
        model = client.create_logged_model(number, source_run_id=run.info.run_id)
    assert (run.info.run_id != foreign, run.info.experiment_id) == (True, number)
    assert client.get_run(foreign).data.params == {}
    client.create_registered_model("toy")
    client.create_model_version("toy", model.model_uri, model_id=model.model_id)
    assert not (tmp_path / "registry.db").exists()
    for name in IGNORED_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert [one.name for one in connect().search_registered_models()] == ["toy"]
    assert "MLFLOW_REGISTRY_URI" not in os.environ


@pytest.fixture(scope="module")
def server(
    empty_mlflow_db: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A server that passes artifacts on, and the folder it keeps them in."""
    folder = tmp_path_factory.mktemp("mlflow-denies")
    shutil.copy(empty_mlflow_db, folder)
    store = f"sqlite:///{folder}/mlflow.db"
    with running_mlflow(folder, store, str(folder / "artifacts"), {}) as address:
        yield address, folder


READS = ("GET", "HEAD")
PLACES = {
    "everything": "",
    "tags of the experiment": "experiments/set-experiment-tag",
    "creation of a name": "registered-models/create",
    "tags of the name": "registered-models/set-tag",
    "artifacts": "mlflow-artifacts/artifacts",
}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_writes_that_a_server_denies_are_found(
    place: str,
    status: int,
    server: tuple[str, Path],
    work_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the basic-auth app of MLflow and proxies answer: plain text, no document."""

    def rule(method: str, path: str) -> Answer | None:
        is_search = path.split("?")[0].endswith(("/search", "/get-by-name"))
        denied = method not in READS and place in path and not is_search
        return (status, "Permission denied") if denied else None

    registry = RegistryConfig(name=f"denied-{status}")
    with refusing_server(rule, server[0]) as host:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{host}")
        with pytest.raises(SftFlowError) as caught:
            check_writes(registry, is_training=True)
    assert type(caught.value) is RegistryForbidden, str(caught.value)
    assert (caught.value.exit_code, caught.value.is_retryable) == (2, False)
    assert "MLFLOW_TRACKING_USERNAME" in caught.value.fix


def test_server_that_allows_everything_passes_and_keeps_nothing(
    server: tuple[str, Path], work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert check_writes(REGISTRY, is_training=True).startswith("mlflow-artifacts:")
    assert [path for path in (folder / "artifacts").rglob("*") if path.is_file()] == []


def test_root_on_the_disk_of_a_server_is_refused_unless_it_is_shared(
    server: tuple[str, Path], work_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server shares the folder; of the other one, the folder is on another machine."""
    address, _ = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    root = tmp_path / "srv" / "mlruns"
    connect().create_experiment("on-disk", artifact_location=root.as_uri())
    registry = RegistryConfig(name="on-disk", experiment="on-disk")
    assert check_writes(registry, is_training=True) == root.as_uri()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def has_no_files(_: str, path: str) -> Answer | None:
        return (200, '{"root_uri": "x"}') if "mlflow/artifacts/list" in path else None

    with refusing_server(has_no_files, address) as host:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{host}")
        with pytest.raises(RegistryError, match="disk of the MLflow server") as caught:
            check_writes(registry, is_training=True)
        assert "--artifacts-destination" in caught.value.fix
        assert check_artifacts(registry).health is Health.PROBLEM
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with store_errors():
        found = connect().get_experiment_by_name("on-disk")
        assert connect().search_runs([found.experiment_id]) == []


def test_file_of_another_check_stays_and_the_run_is_closed_at_once(
    server: tuple[str, Path], work_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two first runs at once: this one created the root, and the other one writes to it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server[0])
    root = tmp_path / "srv" / "mlruns"
    experiment = connect().create_experiment("two-checks", artifact_location=root.as_uri())
    files_on_server = write_check._files_on_server
    states = []

    def while_another_writes(run_id: str) -> set[str]:
        states.append(connect().get_run(run_id).info.status)
        (root / "other").mkdir()
        (root / "other" / "probe").touch()
        return files_on_server(run_id)

    monkeypatch.setattr(write_check, "_files_on_server", while_another_writes)
    check_writes(RegistryConfig(name="two-checks", experiment="two-checks"), is_training=True)
    assert states == ["FINISHED"]
    assert [path.name for path in root.rglob("*")] == ["other", "probe"]
    assert connect().search_runs([experiment]) == []


def test_server_that_cannot_delete_tags_of_experiments_passes(
    server: tuple[str, Path], work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_no_endpoint(_: str, path: str) -> Answer | None:
        return (404, "<html>Not Found</html>") if "delete-experiment-tag" in path else None

    registry = RegistryConfig(name="old-server", experiment="old-server")
    with refusing_server(has_no_endpoint, server[0]) as host:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{host}")
        for _ in range(2):
            check_writes(registry, is_training=True)
        assert connect().get_experiment_by_name("old-server").tags == {"sft-flow-check": "ok"}
