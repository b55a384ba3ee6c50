"""The house itself: names, docstrings, sizes and the one place where stages are listed."""

from __future__ import annotations

import ast
import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.records.stages import Stage

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for room in ("flows", "schemas", "tasks") for path in (ROOT / room).rglob("*.py")
)
MAX_LINES = 400
USUAL_LINES = 300
LONGER = {
    "tasks/rows/near_duplicates.py": "the index and its clusters: one algorithm",
    "tasks/training/process/_step_guards.py": "the guards and the rows they name",
}
"""Why a file is longer than the usual."""


def names_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def raised_here(function: ast.AST) -> Iterator[str]:
    """Name the errors of the raise statements of a function, not of functions within it."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            called = node.exc.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name[:1].isupper():
                yield name
        yield from raised_here(node)


@pytest.mark.parametrize("room", ["flows", "tasks"])
def test_file_names_equal_no_installed_package(room: str) -> None:
    installed = set(importlib.metadata.packages_distributions()) - {"flows", "schemas", "tasks"}
    own = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}
    assert own & installed == set()


@pytest.mark.parametrize("room", ["flows", "tasks"])
def test_file_names_are_verb_noun_or_begin_with_an_underscore(room: str) -> None:
    for path in (ROOT / room).glob("*.py"):
        is_public_name = "_" in path.stem or path.stem in ("cli", "decide")
        assert is_public_name, names_of(path)
        assert path.stem != "utils"


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_its_file(stage: Stage) -> None:
    assert (ROOT / "tasks" / f"{stage}.py").is_file()


def test_import_contract_lists_every_stage() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(found["layers"] for found in contracts if found.get("containers") == ["tasks"])
    public = {path.stem for path in (ROOT / "tasks").glob("[!_]*.py")}
    assert set(layers[0].split(" | ")) == public
    assert public >= set(Stage)


@pytest.mark.parametrize("path", SOURCES, ids=names_of)
def test_files_stay_short(path: Path) -> None:
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= (MAX_LINES if names_of(path) in LONGER else USUAL_LINES)


def test_reasons_for_longer_files_are_of_files_that_are_longer() -> None:
    for name in LONGER:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > USUAL_LINES, name


@pytest.mark.parametrize("path", SOURCES, ids=names_of)
def test_private_modules_and_names_stay_in_their_wing(path: Path) -> None:
    """`_name` belongs to its folder: neither a module nor a name of it is imported from elsewhere."""
    wing = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module.partition(".")[0] not in ("flows", "schemas", "tasks"):
            continue
        for alias in node.names:
            parts = [*node.module.split("."), alias.name]
            private = next((n for n, part in enumerate(parts) if part[:1] == "_"), None)
            if private is not None and not parts[private].startswith("__"):
                owner = ".".join(parts[:private])
                assert owner == wing, f"{names_of(path)}:{node.lineno} {'.'.join(parts)}"


def test_wings_have_a_caption_and_nothing_else() -> None:
    """No re-exports: a face that re-exports would put its wing into every key that uses it."""
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent.parent != ROOT:
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert [type(node) for node in body] == [ast.Expr], names_of(path)


@pytest.mark.parametrize("path", SOURCES, ids=names_of)
def test_every_error_a_public_function_raises_stands_in_its_docstring(path: Path) -> None:
    for function in functions_of(path):
        if function.name.startswith("_"):
            continue
        text = ast.get_docstring(function) or ""
        missing = [name for name in raised_here(function) if name not in text]
        assert not missing, f"{function.name}: {missing}"


@pytest.mark.parametrize("path", SOURCES, ids=names_of)
def test_every_error_of_ours_says_how_to_mend_it(path: Path) -> None:
    """Each `raise` of an error of our tree names the fix."""
    ours = {"ConfigError", "DataSourceError", "ModelSourceError", "TemplateError"}
    ours |= {"WorkDirectoryError", "DataRejected", "ServiceUnreachable"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ours:
            given = {keyword.arg for keyword in node.keywords}
            assert given & {"fix", None}, (
                f"{names_of(path)}:{node.lineno} {node.func.id} has no fix"
            )


def test_no_machine_path_stands_in_a_project_file() -> None:
    for path in [*SOURCES, ROOT / "Makefile", ROOT / "prefect.yaml", ROOT / "pyproject.toml"]:
        assert "/work/" not in path.read_text(encoding="utf-8"), names_of(path)
