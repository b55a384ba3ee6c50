"""What a wheel of this project contains and requires."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from setuptools import find_packages

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETTINGS = PROJECT["tool"]["setuptools"]
DECISIONS = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
ROOMS = ("flows", "schemas", "tasks")


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
