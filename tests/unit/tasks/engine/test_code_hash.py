from __future__ import annotations

import ast
import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.records.stages import Stage
from tasks.engine import _code_hash
from tasks.engine._code_hash import (
    CONTRACT_MODULES,
    code_sha256,
    imported_libraries,
    read_code,
)

STAGE = "from tasks.toy_helper import double\n\n\ndef run(x):\n    return double(x)\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stage `tasks.toy_stage` that imports `tasks.toy_helper`, next to the real ones."""
    import tasks

    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    (tmp_path / "toy_stage.py").write_text(STAGE, encoding="utf-8")
    (tmp_path / "toy_helper.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    yield tmp_path
    forget()


def forget() -> None:
    """Read files again, as the next process would."""
    importlib.invalidate_caches()
    _code_hash._parse.cache_clear()
    _code_hash._path.cache_clear()
    for name in ("tasks.toy_stage", "tasks.toy_helper"):
        sys.modules.pop(name, None)


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = code_sha256("tasks.toy_stage")
    changed = '"""What it does."""\n# why\n' + STAGE.replace("(x):\n", '(x):\n    """Do."""\n\n')
    (package / "toy_stage.py").write_text(changed, encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") == before


def test_a_change_of_behaviour_counts(package: Path) -> None:
    before = code_sha256("tasks.toy_stage")
    (package / "toy_stage.py").write_text(STAGE.replace("(x)\n", "(x + 1)\n"), encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") != before


def test_a_change_in_a_helper_counts(package: Path) -> None:
    before = code_sha256("tasks.toy_stage")
    (package / "toy_helper.py").write_text("def double(x):\n    return 3 * x\n", encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") != before


def test_a_helper_imported_inside_a_function_counts(package: Path) -> None:
    inside = "def run(x):\n    from tasks import toy_helper\n    return toy_helper.double(x)\n"
    (package / "toy_stage.py").write_text(inside, encoding="utf-8")
    forget()
    before = code_sha256("tasks.toy_stage")
    (package / "toy_helper.py").write_text("def double(x):\n    return 3 * x\n", encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") != before


def test_a_module_that_became_only_a_docstring_can_be_read(package: Path) -> None:
    (package / "toy_helper.py").write_text('"""Nothing left."""\n', encoding="utf-8")
    forget()
    assert read_code("tasks.toy_helper") == ast.dump(ast.parse("pass"))


def test_contract_modules_exist() -> None:
    """A name that no longer exists leaves nothing out, without a word."""
    for name in CONTRACT_MODULES:
        assert importlib.util.find_spec(name), name


def test_libraries_are_those_that_run_and_are_of_others(package: Path) -> None:
    helper = (
        "import os, numpy.linalg\n"
        "from typing import TYPE_CHECKING\n"
        "from schemas.errors import SftFlowError\n"
        "if TYPE_CHECKING:\n    import pandas\nelse:\n    import scipy\n"
        "def double(x):\n    from polars import DataFrame\n    return DataFrame(x)\n"
    )
    (package / "toy_helper.py").write_text(helper, encoding="utf-8")
    forget()
    found = imported_libraries("tasks.toy_stage") - imported_libraries("schemas.errors")
    assert found == {"numpy", "scipy", "polars"}


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"tasks\.no_such_stage"):
        code_sha256("tasks.no_such_stage")


def test_an_import_of_a_module_that_is_not_there_is_an_error(package: Path) -> None:
    (package / "toy_stage.py").write_text("from tasks.gone import double\n", encoding="utf-8")
    forget()
    with pytest.raises(ModuleNotFoundError, match=r"tasks\.gone"):
        code_sha256("tasks.toy_stage")


@pytest.mark.parametrize(
    "imports",
    [
        "from tasks.toy_wing.inner.helper import double",
        "from tasks.toy_wing.inner import helper",
        "import tasks.toy_wing.inner.helper",
    ],
)
def test_a_helper_two_folders_down_counts(package: Path, imports: str) -> None:
    inner = package / "toy_wing" / "inner"
    inner.mkdir(parents=True)
    for folder in (package / "toy_wing", inner):
        (folder / "__init__.py").write_text("", encoding="utf-8")
    (inner / "helper.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    (package / "toy_stage.py").write_text(imports, encoding="utf-8")
    forget()
    before = code_sha256("tasks.toy_stage")
    (inner / "helper.py").write_text("def double(x):\n    return 3 * x\n", encoding="utf-8")
    forget()
    edited = code_sha256("tasks.toy_stage")
    (package / "toy_wing" / "__init__.py").write_text("SIZE = 2", encoding="utf-8")
    forget()
    assert len({before, edited, code_sha256("tasks.toy_stage")}) == 3


@pytest.fixture(scope="module")
def import_graph() -> Any:
    """Who imports whom, as import-linter's own library reads it."""
    import grimp

    return grimp.build_graph("tasks", "schemas", cache_dir=None)


@pytest.mark.parametrize("stage", list(Stage))
def test_every_module_a_stage_reaches_counts(stage: Stage, import_graph: Any) -> None:
    """What the hash covers is what another reader of imports finds."""
    reached, waiting = set(), [f"tasks.{stage}"]
    while waiting:
        name = waiting.pop()
        if name not in reached and name not in CONTRACT_MODULES:
            reached.add(name)
            waiting.extend(import_graph.find_modules_directly_imported_by(name))
    packages = {name for name in _code_hash._closure(f"tasks.{stage}") if _is_package(name)}
    assert _code_hash._closure(f"tasks.{stage}") - packages == reached - packages


def _is_package(module: str) -> bool:
    path = _code_hash._path(module)
    return path is not None and path.name == "__init__.py"


@pytest.mark.parametrize("stage", list(Stage))
def test_an_edit_of_the_deepest_helper_changes_the_key_of_its_stage(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of the sources, a line is added to the module that lies deepest."""
    import schemas
    import tasks

    for package in (schemas, tasks):
        copy = tmp_path / package.__name__
        shutil.copytree(Path(*package.__path__), copy, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(package, "__path__", [str(copy)])
    forget()
    name = f"tasks.{stage}"
    before = code_sha256(name)
    deepest = max(
        _code_hash._closure(name) - {name}, key=lambda module: (module.count("."), module)
    )
    path = _code_hash._path(deepest)
    assert path is not None
    assert path.is_relative_to(tmp_path)
    path.write_text(f"{path.read_text(encoding='utf-8')}\nEDITED = True\n", encoding="utf-8")
    forget()
    edited = code_sha256(name)
    monkeypatch.undo()
    forget()
    assert edited != before


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_code_to_hash(stage: Stage) -> None:
    assert len(read_code(f"tasks.{stage}")) > 100
