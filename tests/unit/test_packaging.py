"""What a wheel of this project holds."""

from __future__ import annotations

import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "setuptools"
]
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
