from __future__ import annotations

import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

import flows.doctor._run_needs as doctor
from flows.doctor.examine import _guarded
from flows.doctor.finding import Health
from schemas.config.registry import RegistryConfig
from schemas.config.run import ModelConfig, RunConfig
from tests.support.http_faults import refusing_server
from tests.support.toy import make_toy_model

Usage = namedtuple("Usage", ["total", "used", "free"])
N_PARAMETERS = 1_000_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_parameters_of_a_folder_are_counted(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_toy_model(tmp_path / "model")
    counted = doctor.count_source_parameters(ModelConfig(source=str(folder)))
    assert counted == AutoModelForCausalLM.from_pretrained(folder).num_parameters()


def test_an_offline_hub_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert doctor.check_hub(RunConfig()).health is Health.NOTE


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("status", "detail"),
    [(429, "limits the rate of requests"), (503, "cannot be reached"), (404, "was not found")],
)
@pytest.mark.parametrize("section", ["model", "data"])
def test_what_the_hub_would_answer_a_run_is_a_problem(
    status: int, detail: str, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    source: object = "acme/toy" if section == "model" else {"source": "acme/toy"}
    config = RunConfig.model_validate({section: {"source": source}})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with refusing_server(lambda *_: (status, "{}")) as place:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://{place}")
        finding = _guarded(doctor.check_hub, config)
    assert (finding.topic, finding.health) == ("hub", Health.PROBLEM)
    assert detail in finding.detail
    assert finding.fix


def test_hub_that_does_not_answer_leaves_the_size_open(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = RunConfig.model_validate({"model": {"source": "nobody/nothing"}})
    finding = doctor.check_disk(config)
    assert finding.health is Health.NOTE
    assert "the size of nobody/nothing is unknown" in finding.detail


@pytest.mark.parametrize(
    ("free", "health", "words"),
    [(2 * 2**30, Health.OK, "1.00 GiB, 2.00 GiB free"), (2**29, Health.PROBLEM, "0.50 GiB free")],
)
def test_disk_is_held_against_what_a_run_takes(
    free: int, health: Health, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    monkeypatch.setattr(doctor, "count_source_parameters", lambda _: N_PARAMETERS)
    monkeypatch.setattr(doctor, "needed_bytes", lambda *_: 2**30)
    finding = doctor.check_disk(RunConfig())
    assert finding.health is health
    assert words in finding.detail
    assert ("SFT_HOME" in finding.fix) is (health is Health.PROBLEM)


def test_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    registry = RegistryConfig(name="toy")
    found = [doctor.check_aliases(registry), doctor.check_artifacts(registry)]
    assert [one.health for one in found] == [Health.OK, Health.OK]
    assert all(doctor.NO_STORE in one.detail for one in found)
    assert not (tmp_path / "home").exists()


def test_disk_for_temporary_files_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of 4 MB fits where the work directory is, but not into the other disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    free = {tmp_path: 3_999_999}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free.get(Path(path), 2**40)))
    monkeypatch.setattr(doctor, "count_source_parameters", lambda _: N_PARAMETERS)
    monkeypatch.setenv("SFT_HOME", str(tmp_path.parent))
    finding = _guarded(doctor.check_disk, RunConfig())
    assert (finding.topic, finding.health) == ("disk", Health.PROBLEM)
    assert "TMPDIR" in finding.fix
    free[tmp_path] = 4_000_000
    assert doctor.check_disk(RunConfig()).health is Health.OK


def test_doctor_finds_the_program_of_the_evaluation_server() -> None:
    assert "transformers" in doctor.check_evaluation_server(RunConfig()).detail
    served = served_by("env vllm serve {model} --port {port}")
    finding = doctor.check_evaluation_server(served)
    assert finding.health is Health.OK
    assert finding.detail == shutil.which("env")
    missing = _guarded(doctor.check_evaluation_server, served_by("/opt/no/vllm {model} {port}"))
    assert (missing.topic, missing.health) == ("evaluation server", Health.PROBLEM)
    assert "/opt/no/vllm" in missing.detail


def served_by(command: str) -> RunConfig:
    return RunConfig.model_validate({"evaluation": {"server": {"command": command}}})
