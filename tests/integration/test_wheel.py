"""The wheel, in an environment and a folder outside the repository: the way of a new user."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import N_ROWS, toy_config
from tests.support.prefect_server import ROOT, Server, running_server
from tests.support.processes import clean_environment
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration

RUN_SECONDS = 240.0


def succeed(*command: object, folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment or clean_environment(),
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel; other packages are those of the tests.

    The wheel is built from the source distribution, so that this one is complete too. A folder in
    a .pth file is searched last, and its own .pth files, such as the one of the repository's
    editable installation, are not read.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    succeed(*build, folder=folder)
    (wheel,) = folder.glob("*.whl")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    succeed(*pip, "install", "--quiet", "--no-deps", wheel, folder=folder)
    (libraries,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (libraries / "others.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def project(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `sft-flow init` prepared, with the small settings of the toy."""
    folder = tmp_path_factory.mktemp("project of a user")
    make_toy_model(folder / "toy-model")
    write_jsonl(folder / "rows.jsonl", toy_rows(N_ROWS))
    names = ("--model", "./toy-model", "--name", "toy")
    succeed(python.with_name("sft-flow"), "init", "--data", "rows.jsonl", *names, folder=folder)
    path = folder / "sft-flow.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    toy = toy_config(folder / "toy-model", folder / "rows.jsonl")
    small = toy.model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump(small | written | {"training": small["training"]}), "utf-8")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as found:
        yield found


def test_wheel_is_what_runs(python: Path, tmp_path: Path) -> None:
    program = "import flows, tasks, schemas; print(flows.__file__, tasks.__file__)"
    for path in succeed(python, "-c", program, folder=tmp_path).split():
        assert Path(path).is_relative_to(python.parents[1])


def test_commands_run_outside_the_repository(python: Path, project: Path, server: Server) -> None:
    """In a folder with packages of our names too: no process of ours imports from there."""
    command = python.with_name("sft-flow")
    for name in ("flows", "tasks", "schemas"):
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("raise SystemExit('hidden')", "utf-8")
    environment = server.environment
    try:
        for name in ("check", "plan", "run"):
            words = (command, name, "-c", "sft-flow.yaml")
            found = succeed(*words, folder=project, environment=environment)
        assert "Decision: PROMOTE" in found
        assert "toy version 1 is champion" in found
        page = succeed(command, "report", folder=project, environment=environment)
        assert Path(page.split()[-1]).read_text(encoding="utf-8").startswith("<!doctype html>")
    finally:
        for name in ("flows", "tasks", "schemas"):
            (project / name / "__init__.py").unlink()
            (project / name).rmdir()


def test_deployment_by_module_path_runs_in_a_worker(
    python: Path, project: Path, server: Server
) -> None:
    def prefect(*words: str) -> str:
        environment = server.environment | {"PWD": str(project)}
        return succeed(python, "-m", "prefect", *words, folder=project, environment=environment)

    prefect("work-pool", "create", "--type", "process", "sft-local")
    prefect("--no-prompt", "deploy", "--all")
    found = server.ask("/deployments/filter", {})
    assert {one["name"]: one["entrypoint"] for one in found} == {
        "toy-train": "flows.train_sft.train_sft",
        "toy-weekly": "flows.retrain_model.retrain_model",
    }
    prefect("deployment", "run", "train-sft/toy-train")
    prefect("worker", "start", "--pool", "sft-local", "--run-once")
    deadline = time.monotonic() + RUN_SECONDS
    names = {"flows": {"name": {"any_": ["train-sft"]}}}
    while time.monotonic() < deadline:
        runs = server.ask("/flow_runs/filter", names | {"sort": "START_TIME_DESC"})
        if all(run["state_type"] not in ("SCHEDULED", "PENDING", "RUNNING") for run in runs):
            break
        time.sleep(1)
    deployed = [run for run in runs if run["deployment_id"]]
    assert [run["state_name"] for run in deployed] == ["Completed"]
