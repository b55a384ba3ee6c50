"""`sft-flow doctor` on a real MLflow store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.doctor._run_needs import check_aliases, check_artifacts
from flows.doctor.finding import Health
from schemas.config.registry import RegistryConfig
from tasks.registry.store import connect, experiment_id, model_id_of
from tasks.registry.write_check import write_read_delete
from tasks.release.retention import delete_model_files

pytestmark = pytest.mark.integration

REGISTRY = RegistryConfig(name="toy")


@pytest.fixture
def client(mlflow_home: Path) -> Any:
    return connect()


def add_version(client: Any, folder: Path) -> str:
    """Register a logged model of one file, and give its address."""
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    model = client.create_logged_model(experiment_id(client, REGISTRY.experiment))
    client.log_model_artifacts(model.model_id, str(folder))
    client.create_registered_model("toy")
    uri = f"models:/{model.model_id}"
    client.create_model_version("toy", uri, model_id=model.model_id)
    return uri


def test_doctor_follows_the_aliases_to_their_files(client: Any, tmp_path: Path) -> None:
    assert (check_aliases(REGISTRY).health, check_aliases(REGISTRY).detail) == (
        Health.NOTE,
        "toy: no champion yet",
    )
    uri = add_version(client, tmp_path / "model")
    client.set_registered_model_alias("toy", "challenger", "1")
    assert check_aliases(REGISTRY).detail == "toy: no champion yet (challenger 1)"
    client.set_registered_model_alias("toy", "champion", "1")
    standing = check_aliases(REGISTRY)
    assert (standing.health, standing.detail) == (Health.OK, "toy: champion 1, challenger 1")
    delete_model_files(client, model_id_of(uri))
    gone = check_aliases(REGISTRY)
    assert gone.health is Health.PROBLEM
    assert gone.detail == "toy: files are missing for champion (version 1), challenger (version 1)"
    assert "sft-flow rollback toy" in gone.fix


def test_doctor_finds_a_store_that_cannot_be_written(client: Any, tmp_path: Path) -> None:
    assert check_artifacts(REGISTRY).health is Health.OK
    (tmp_path / "file").touch()
    client.create_experiment(REGISTRY.experiment, artifact_location=f"file://{tmp_path}/file/store")
    finding = check_artifacts(REGISTRY)
    assert finding.health is Health.PROBLEM
    assert f"{tmp_path}/file/store: the artifact store cannot be written" in finding.detail


def test_doctor_leaves_nothing_in_a_store_it_has_written_to(client: Any, tmp_path: Path) -> None:
    place = tmp_path / "store"
    write_read_delete(place.as_uri())
    assert list(place.iterdir()) == []
