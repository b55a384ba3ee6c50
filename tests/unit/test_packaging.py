"""What a wheel of this project contains, and what each of its extras is for."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import find_packages

from deploy.notice import closure
from tasks.engine.extras import BASE, DISTRIBUTION, FOR_DEVELOPERS, PACKAGES, requirements
from tests.support.toy import ordinary_rows, write_jsonl

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETTINGS = PROJECT["tool"]["setuptools"]
DECISIONS = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
ROOMS = ("flows", "schemas", "tasks")
Results = dict[tuple[str, ...], tuple[int, str, str]]
BROUGHT_BY = {"aiohttp": "fsspec[http]", "referencing": "jsonschema"}
"""Imported packages that a declared one is made of."""
PROGRAM = """
import json, sys

class Blocker:
    names = frozenset({names!r})

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from click.testing import CliRunner
from flows.cli.main import main

results = [CliRunner().invoke(main, command) for command in {commands!r}]
print(json.dumps([(found.exit_code, found.stdout, found.stderr) for found in results]))
"""
"""Runs commands as where no extra is installed."""
CHECK = ("check", "rows.jsonl", "--json")
INIT = ("init", "--data", "rows.jsonl", "--model", "base.gguf", "--json", "new")
NEED_AN_EXTRA = {
    ("check", "s3://bucket/rows.jsonl"): "s3",
    ("run",): "train",
    ("plan",): "train",
    ("check", "rows.jsonl", "--tokens"): "train",
    ("check", "owner/name"): "train",
    ("status", "a-name"): "train",
    ("history", "a-name"): "train",
    ("promote", "a-name"): "train",
    ("rollback", "a-name"): "train",
    ("export", "a-name", "out"): "train",
    ("up",): "train",
    ("notify", "--list"): "train",
    (
        "sweep",
        *("--search", "learning_rate=1e-5..1e-3:log"),
        *("--set", "split.validation_fraction=0.1"),
    ): "sweep",
}


def imported_packages() -> dict[str, set[str]]:
    """Map each third-party package to the files that import it, whichever way."""
    found: dict[str, set[str]] = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top not in ROOMS:
                    package = canonicalize_name(PACKAGES.get(top, top))
                    found.setdefault(package, set()).add(path.relative_to(ROOT).as_posix())
    return found


def modules_outside_the_base() -> Iterator[str]:
    """List the top modules of what only extras bring, as far as it is installed."""
    of_base = closure([DISTRIBUTION])
    of_extras = {
        canonicalize_name(requirement.name)
        for extra, requirement in requirements()
        if extra != BASE and extra not in FOR_DEVELOPERS
    }
    for module, packages in importlib.metadata.packages_distributions().items():
        names = {canonicalize_name(package) for package in packages}
        if names & of_extras and not names & of_base:
            yield module


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Run every command of `NEED_AN_EXTRA`, the data gate and doctor without any extra."""
    folder = tmp_path_factory.mktemp("gate")
    write_jsonl(folder / "rows.jsonl", ordinary_rows(40))
    (folder / "base.gguf").touch()
    commands = [*NEED_AN_EXTRA, CHECK, INIT, ("doctor", "--json")]
    names = sorted(modules_outside_the_base())
    assert {"torch", "prefect", "mlflow", "transformers"} <= set(names)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(names=names, commands=commands)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout.splitlines()[-1]), strict=True))


def test_tools_check_for_the_oldest_python() -> None:
    oldest = PROJECT["project"]["requires-python"].split(",")[0].removeprefix(">=")
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"


def test_every_folder_with_code_is_a_package_of_the_wheel() -> None:
    found = set(find_packages(str(ROOT), **SETTINGS["packages"]["find"]))
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert found == {".".join(folder.relative_to(ROOT).parts) for folder in folders}


def test_every_template_and_style_sheet_is_in_the_wheel() -> None:
    patterns = SETTINGS["package-data"]
    listed = {
        path for room in patterns for one in patterns[room] for path in (ROOT / room).glob(one)
    }
    files = {
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert files
    assert files <= listed


def upper_bounds() -> Iterator[tuple[str, str, Version]]:
    """Yield name, operator and version of every upper bound among the requirements."""
    project = PROJECT["project"]
    for listed in (project["dependencies"], *project["optional-dependencies"].values()):
        for text in listed:
            requirement = Requirement(text)
            for bound in requirement.specifier:
                if not bound.operator.startswith((">", "!")):
                    yield requirement.name, bound.operator, Version(bound.version)


def test_caps_within_a_major_version_have_a_reason_and_an_end() -> None:
    table = DECISIONS.split("### Caps", 1)[1].split("\n\n", 3)[2]
    explained = set(re.findall(r"`(\S+?)`", "".join(re.findall(r"^\| (`.+?) \|", table, re.M))))
    bounds = {f"{name}{operator}{version}": version for name, operator, version in upper_bounds()}
    assert explained <= set(bounds), "a row is about a cap that pyproject.toml does not have"
    assert {bound for bound, version in bounds.items() if any(version.release[1:])} <= explained


def test_every_imported_package_is_declared() -> None:
    declared = {
        canonicalize_name(requirement.name)
        for extra, requirement in requirements()
        if extra not in FOR_DEVELOPERS
    }
    missing = {
        package: files
        for package, files in imported_packages().items()
        if package not in declared | BROUGHT_BY.keys()
    }
    assert not missing
    lines = {str(requirement) for _, requirement in requirements()}
    for owner in BROUGHT_BY.values():
        assert any(line.startswith(owner) for line in lines), owner


def test_every_declared_package_is_imported_or_has_a_reason() -> None:
    """A package that nobody imports is a driver, a kernel or data: each is named here."""
    not_imported = {
        "boto3", "psycopg2-binary", "s3fs",  # drivers of MLflow and fsspec
        "accelerate",  # of TRL
        "zaragoza-construction-faq",  # data
    }  # fmt: skip
    declared = {
        canonicalize_name(requirement.name)
        for extra, requirement in requirements()
        if extra not in FOR_DEVELOPERS
    }
    assert declared - imported_packages().keys() <= not_imported


def test_data_gate_needs_no_extra(without_extras: Results) -> None:
    code, output, error = without_extras[CHECK]
    assert code == 0, error
    assert json.loads(output)["verdict"] == "accepted"
    code, output, error = without_extras[INIT]
    assert code == 0, error
    assert json.loads(output)["n_kept_rows"] == 40


@pytest.mark.parametrize("command", NEED_AN_EXTRA, ids=" ".join)
def test_command_without_its_extra_names_it_in_one_line(
    command: tuple[str, ...], without_extras: Results
) -> None:
    code, _, error = without_extras[command]
    extra = NEED_AN_EXTRA[command]
    assert code == 2, error
    (line,) = error.splitlines()
    needed_by = "data at s3://" if extra == "s3" else f"`sft-flow {command[0]}`"
    assert f"{needed_by} needs the extra {extra}" in line
    assert line.endswith(f"pip install 'sft-flow[{extra}]'")


def test_doctor_without_the_flow_names_the_extra(without_extras: Results) -> None:
    code, output, _ = without_extras["doctor", "--json"]
    assert code == 3
    assert "No module named" not in output
    assert "pip install 'sft-flow[train]'" in output
