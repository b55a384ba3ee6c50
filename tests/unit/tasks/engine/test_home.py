from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.config.registry import RegistryConfig
from tasks.engine.home import absolute_tracking_uri, has_store, prepare_environment
from tasks.registry.champion import find_champion_data


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///runs/mlflow.db", "sqlite:///{here}/runs/mlflow.db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("mlruns", "{here}/mlruns"),
        ("file:///data/mlruns", "file:///data/mlruns"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://mlflow@host/mlflow", "postgresql://mlflow@host/mlflow"),
        ("databricks", "databricks"),
    ],
)
def test_absolute_tracking_uri_names_the_same_store_from_every_folder(
    uri: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert absolute_tracking_uri() == absolute.format(here=tmp_path)


def test_store_is_there_unless_its_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert not has_store()
    (tmp_path / "mlflow.db").touch()
    assert has_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert has_store()


def test_asking_for_a_champion_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert find_champion_data(RegistryConfig(name="toy"), "sha256") is None
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("users_own", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000", "DO_NOT_TRACK": "1"}),
        (
            {"GOMP_SPINCOUNT": "7", "DO_NOT_TRACK": "0"},
            {"GOMP_SPINCOUNT": "7", "DO_NOT_TRACK": "0"},
        ),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_what_the_user_has_set_for_libraries_stays(
    monkeypatch: pytest.MonkeyPatch, users_own: dict[str, str], expected: dict[str, str | None]
) -> None:
    monkeypatch.setattr(os, "environ", dict(users_own))
    prepare_environment()
    assert {name: os.environ.get(name) for name in expected} == expected
