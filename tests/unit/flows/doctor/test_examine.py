from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

import flows.doctor.examine as doctor
from flows.doctor.finding import Finding, Health
from schemas.errors import ModelSourceError


@pytest.mark.parametrize(
    ("line", "is_needed", "problem"),
    [
        ("click>=8", True, ""),
        ("click>=99", True, "is outside >=99"),
        ("click>=99", False, "is outside >=99"),
        ("no-such-package-here", True, "no-such-package-here is missing"),
        ("no-such-package-here", False, ""),
    ],
)
def test_requirement_problem(line: str, *, is_needed: bool, problem: str) -> None:
    found = doctor.requirement_problem(Requirement(line), is_needed=is_needed)
    assert problem in found
    assert bool(problem) == bool(found)


def test_doctor_names_an_unwritable_work_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "file" / "home"))
    finding = doctor.check_home()
    assert finding.health is Health.PROBLEM
    assert "SFT_HOME" in finding.mend


def test_doctor_takes_an_offline_hub_for_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.check_hub().health is Health.NOTE


def test_doctor_goes_on_when_one_examination_breaks() -> None:
    def check_something() -> Finding:
        raise RuntimeError("odd")

    finding = doctor._guarded(check_something)
    assert (finding.topic, finding.health) == ("something", Health.PROBLEM)
    assert finding.detail == "RuntimeError: odd"


def test_doctor_names_the_device_with_its_memory() -> None:
    finding = doctor.check_device()
    assert finding.health is Health.OK
    assert "physical cores" in finding.detail
    assert "GiB free" in finding.detail


def test_doctor_gives_the_fix_of_an_error_of_ours() -> None:
    def check_disk() -> Finding:
        raise ModelSourceError("the model is unknown", fix="correct model.source")

    finding = doctor._guarded(check_disk)
    assert (finding.topic, finding.health) == ("disk", Health.PROBLEM)
    assert (finding.detail, finding.mend) == ("the model is unknown", "correct model.source")
