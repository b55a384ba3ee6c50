from __future__ import annotations

import socket
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.doctor._servers as doctor
from flows.doctor.finding import Health

pytestmark = pytest.mark.loopback


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without prefect.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_doctor_finds_a_dead_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    finding = doctor.check_store()
    assert (finding.health, "9" in finding.detail) == (Health.PROBLEM, True)


def test_doctor_names_variables_of_mlflow_that_are_ignored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    assert doctor.check_store().health is Health.OK
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    finding = doctor.check_store()
    assert finding.health is Health.NOTE
    assert finding.detail.endswith("ignored: MLFLOW_RUN_ID")


def test_doctor_finds_a_dead_prefect_server() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        found = doctor.check_prefect()
    assert found.health is Health.PROBLEM
    assert "sft-flow up" in found.fix
    rest = [doctor.check_pools(None), doctor.check_deployments(None), doctor.check_runs(None)]
    assert [one.health for one in rest] == [Health.NOTE] * 3


@pytest.mark.parametrize("text", ["deployments: [", "- a", "deployments: [a]"])
def test_doctor_names_a_prefect_yaml_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "prefect.yaml").write_text(text)
    finding = doctor.check_pools("http://127.0.0.1:9/api")
    assert (finding.health, "cannot be read" in finding.detail) == (Health.NOTE, True)


@pytest.mark.loopback
def test_doctor_shows_no_password_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}/mlflow"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://ada:hunter2@{place}")
        finding = doctor.check_store()
    assert (finding.health, finding.detail) == (Health.OK, f"postgresql://{place}")
