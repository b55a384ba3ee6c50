from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

import flows.doctor.examine as doctor
from flows.doctor.finding import Finding, Health
from schemas.errors import ModelSourceError
from tasks.engine.extras import BASE, requirements


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("click>=8", ""),
        ("click>=99", "is outside >=99"),
        ("no-such-package-here", "no-such-package-here is missing"),
    ],
)
def test_requirement_problem(line: str, problem: str) -> None:
    found = doctor.requirement_problem(Requirement(line))
    assert problem in found
    assert bool(problem) == bool(found)


def check_packages_with(
    patch: pytest.MonkeyPatch, problems: dict[str, str], default: str = ""
) -> Finding:
    """Check the packages as if some had a problem, and the others `default`."""
    patch.setattr(
        doctor,
        "requirement_problem",
        lambda requirement: problems.get(
            requirement.name, default and f"{requirement.name} {default}"
        ),
    )
    return doctor.check_packages()


def test_wrong_packages_of_the_flow_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"torch": "torch 3 is outside <2.14", "trl": "trl 2 is outside <1.17"}
    finding = check_packages_with(monkeypatch, wrong)
    assert (finding.health, finding.detail) == (Health.PROBLEM, "; ".join(wrong.values()))
    assert "sft-flow[train]" in finding.fix


def test_flow_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {requirement.name: "" for extra, requirement in requirements() if extra == BASE}
    finding = check_packages_with(monkeypatch, base, default=doctor.MISSING)
    assert finding.detail == "the extra train is not installed: this is the data gate alone"
    assert finding.health is Health.PROBLEM


def test_other_extras_may_be_missing_but_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = check_packages_with(monkeypatch, {"optuna": "optuna is missing"})
    assert finding.health is Health.OK
    finding = check_packages_with(monkeypatch, {"optuna": "optuna 4 is outside >=5"})
    assert (finding.health, finding.detail) == (Health.NOTE, "optuna 4 is outside >=5")
    assert "sft-flow[sweep,train]" in finding.fix


def test_packages_for_developers_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = check_packages_with(monkeypatch, {"pytest": "pytest 8 is outside >=9"})
    assert finding.health is Health.OK


def test_doctor_names_an_unwritable_work_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "file" / "home"))
    finding = doctor.check_home()
    assert finding.health is Health.PROBLEM
    assert "SFT_HOME" in finding.fix


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
    assert (finding.detail, finding.fix) == ("the model is unknown", "correct model.source")
