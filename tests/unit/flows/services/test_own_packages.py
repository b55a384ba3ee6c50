from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.services.own_packages import OURS, hidden_message, hiding_packages


def make_package(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    return folder / name


def run_in(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with a folder first on the import path, as Prefect runs a deployment."""
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); {program}"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder
    )


@pytest.fixture(params=[False, True], ids=["wheel", "editable"])
def is_editable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Put sft-flow's folder on the import path, as a wheel does, or take it off."""
    others = [entry for entry in sys.path if Path(entry).resolve() != OURS]
    monkeypatch.setattr(sys, "path", others if request.param else [*others, str(OURS)])
    return bool(request.param)


def test_packages_of_a_folder_hide_ours(tmp_path: Path, *, is_editable: bool) -> None:
    (tmp_path / "flows").mkdir()
    assert hiding_packages(tmp_path) == ()
    (tmp_path / "flows" / "mine.py").touch()  # without __init__.py
    plain = [tmp_path / "flows"] if is_editable else []
    assert [*hiding_packages(tmp_path)] == plain
    found = make_package(tmp_path, "tasks")
    (tmp_path / "schemas.py").touch()
    assert [*hiding_packages(tmp_path)] == [found, tmp_path / "schemas.py", *plain]
    assert hiding_packages(OURS) == ()


@pytest.mark.parametrize("name", ["tasks", "schemas"])
def test_flow_names_the_package_that_hides_ours(tmp_path: Path, name: str) -> None:
    found = make_package(tmp_path, name)
    done = run_in(tmp_path, "import flows.train_sft")
    assert done.stderr.splitlines()[-1] == f"ImportError: {hidden_message(found)}"
    assert str(tmp_path / name) in hidden_message(found)


def test_flow_starts_next_to_folders_that_are_no_packages(tmp_path: Path) -> None:
    for name in ("flows", "tasks", "schemas"):
        (tmp_path / name).mkdir()
    at_the_end = f"sys.path.append({str(OURS)!r})"  # as site-packages is
    done = run_in(tmp_path, f"{at_the_end}; import flows, tasks.engine; print(flows.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parents[1].samefile(OURS)


def test_commands_work_in_a_folder_with_packages_of_those_names(tmp_path: Path) -> None:
    for name in ("flows", "tasks", "schemas"):
        make_package(tmp_path, name)
    command = Path(sys.executable).with_name("sft-flow")
    done = subprocess.run(
        [command, "check", "--schema"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
