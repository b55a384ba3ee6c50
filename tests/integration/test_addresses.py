"""A work directory that was moved, renamed or restored elsewhere keeps the files of its versions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.doctor._run_needs import check_aliases, check_artifacts
from flows.doctor.finding import Health
from flows.train_sft import train_sft
from schemas.config.registry import RegistryConfig
from schemas.config.run import RunConfig
from schemas.errors import WorkDirectoryError
from tasks.engine import active_runs
from tasks.engine.active_runs import active_run
from tasks.engine.home import absolute_tracking_uri
from tasks.engine.stage import look_ahead
from tasks.registry.champion import ChampionData, read_champion_profile
from tasks.registry.store import connect, experiment_id
from tasks.registry.versions import fetch_registered, find_champion
from tests.integration.conftest import ToyRun

pytestmark = pytest.mark.integration

NAME = "toy"
REGISTRY = RegistryConfig(name=NAME)


@pytest.fixture
def run_id(mlflow_home: Path) -> str:
    """A run with an artifact in a new store."""
    client = connect()
    run = client.create_run(experiment_id(client, "sft-flow"))
    client.log_text(run.info.run_id, "before", "a.txt")
    return str(run.info.run_id)


@pytest.fixture
def use_home(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Set the work directory, and forget what MLflow remembers in a process: its place of artifacts."""
    from mlflow.tracking._tracking_service import utils

    def use(home: Path) -> None:
        utils._artifact_repos_cache.clear()
        monkeypatch.setenv("SFT_HOME", str(home))

    return use


def test_store_follows_a_folder_that_is_renamed(
    run_id: str, mlflow_home: Path, tmp_path: Path, use_home: Callable[[Path], None]
) -> None:
    moved = tmp_path / "new name é"
    mlflow_home.rename(moved)
    use_home(moved)
    client = connect()
    client.log_text(run_id, "after", "b.txt")
    other = client.create_run(experiment_id(client, "sft-flow"))
    client.log_text(other.info.run_id, "after", "c.txt")
    assert {file.path for file in client.list_artifacts(run_id)} == {"a.txt", "b.txt"}
    assert len(list(moved.rglob("[abc].txt"))) == 3
    assert not mlflow_home.exists()
    finding = check_artifacts(REGISTRY)
    assert (finding.health, moved.as_uri() in finding.detail) == (Health.OK, True)


def test_restored_copy_is_written_and_not_the_original(
    run_id: str, mlflow_home: Path, tmp_path: Path, use_home: Callable[[Path], None]
) -> None:
    copy = shutil.copytree(mlflow_home, tmp_path / "copy")
    use_home(copy)
    connect().log_text(run_id, "after", "b.txt")
    assert len(list(copy.rglob("[ab].txt"))) == 2
    assert not list(mlflow_home.rglob("b.txt"))


def test_an_address_by_another_path_of_the_same_folder_stays(
    run_id: str, mlflow_home: Path, tmp_path: Path, use_home: Callable[[Path], None]
) -> None:
    (tmp_path / "link").symlink_to(mlflow_home)
    use_home(tmp_path / "link")
    found = connect().get_run(run_id).info.artifact_uri
    assert str(found).startswith(mlflow_home.as_uri())


def test_an_experiment_of_other_software_stays(mlflow_home: Path, tmp_path: Path) -> None:
    place = tmp_path / "shared" / "artifacts"
    place.mkdir(parents=True)
    number = connect().create_experiment("theirs", artifact_location=place.as_uri())
    assert connect().get_experiment(number).artifact_location == place.as_uri()


def test_addresses_stay_while_a_run_uses_the_other_path(
    run_id: str, mlflow_home: Path, tmp_path: Path, use_home: Callable[[Path], None]
) -> None:
    """As from a container with the same folder in another place."""
    with active_run():
        moved = mlflow_home.rename(tmp_path / "moved")
        use_home(moved)
        with pytest.raises(WorkDirectoryError, match="by another path") as caught:
            connect()
        assert str(mlflow_home) in caught.value.fix
        moved.rename(mlflow_home)
        use_home(mlflow_home)
    assert not active_runs.is_used_elsewhere()


def test_the_same_store_by_its_address_keeps_artifacts_in_the_work_directory(
    mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", absolute_tracking_uri())
    client = connect()
    found = client.get_experiment(experiment_id(client, "sft-flow")).artifact_location
    assert found == (mlflow_home / "artifacts").as_uri()


def test_drift_that_cannot_be_checked_is_told(
    run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_champion_profile(ChampionData(1, run_id)) is None
    assert "drift is not checked: data/profile.json of version 1 is missing" in caplog.text


def test_unchanged_run_in_a_moved_work_directory_reuses_every_stage(
    toy_run: ToyRun, tmp_path: Path, use_home: Callable[[Path], None]
) -> None:
    home = shutil.copytree(toy_run.home, tmp_path / "restored")
    use_home(home)
    config: RunConfig = toy_run.config
    lookups = look_ahead(lambda: train_sft.fn(config))
    assert [found.key.stage for found in lookups if found.reference is None] == []
    champion = find_champion(f"models:/{config.registry.name}@champion")
    assert champion is not None
    model, _ = fetch_registered(champion, tmp_path)
    assert model.is_relative_to(home)
    assert read_champion_profile(ChampionData(champion.version, champion.run_id)) is not None
    assert check_aliases(config.registry).health is Health.OK
