"""Hash of the code that implements a stage: its module and all it imports from us."""

from __future__ import annotations

import ast
import hashlib
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CONTRACT_MODULES = frozenset(
    {
        "schemas.base",
        "schemas.errors",
        "schemas.config.evaluation",
        "schemas.config.gates",
        "schemas.records.decision",
        "schemas.records.references",
        "schemas.config.registry",
        "schemas.config.run",
        "schemas.config.training",
        "tasks",
        "tasks.engine.cache",
        "tasks.engine._code_hash",
        "tasks.engine.files",
        "tasks.engine.home",
        "tasks.engine.journal",
        "tasks.engine.keys",
        "tasks.engine.progress",
        "tasks.engine.pusher",
        "tasks.engine.stage",
        "schemas",
    }
)
"""Left out: they carry values and results, which the key contains by content, or only show them."""


def code_sha256(module: str) -> str:
    """Return a sha256 over the syntax trees of a stage's module and all it imports from us."""
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        digest.update(f"{name}\n{read_code(name)}\n".encode())
    return digest.hexdigest()


def _closure(module: str) -> set[str]:
    """Follow our own imports from one module, wherever in the file they are."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or (name in CONTRACT_MODULES and name != module):
            continue
        found.add(name)
        waiting.extend(_parse(name)[1])
    return found


def read_code(module: str) -> str:
    """Return a module's syntax tree without comments, docstrings and layout: its behaviour."""
    return _parse(module)[0]


@cache
def _parse(module: str) -> tuple[str, frozenset[str]]:
    """Read a module once: its tree as text, and the names it imports from us."""
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"there is no file of module {module}", name=module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: set[str] = set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    # `from tasks.engine import cache` imports a module, `from tasks.engine.cache import look_up` a name.
    ours = {name for name in modules if _is_ours(name)}
    ours |= {name for name in names if _is_ours(name) and _path(name)}
    return ast.dump(tree), frozenset(
        ours | {package for name in ours for package in _parents(name)}
    )


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("tasks", "schemas")


def _parents(module: str) -> Iterator[str]:
    """Yield the packages around a module, whose `__init__` Python runs first."""
    while module := module.rpartition(".")[0]:
        yield module


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def _path(module: str) -> Path | None:
    """Find a module's file without importing it."""
    package, *names = module.split(".")
    for folder in importlib.import_module(package).__path__:
        place = Path(folder, *names)
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                return path
    return None
