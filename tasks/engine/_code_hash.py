"""Code that implements a stage: its module and all it imports from us; its hash and its libraries."""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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
        "tasks.engine._libraries",
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
"""Left out: they carry values and results, which the key contains by content, or only show them.

The key contains what their properties return, and the code hash what is imported from those of
`schemas` besides classes: constants and functions, and what these use in turn.
"""


@dataclass(frozen=True)
class _Source:
    """What one module says."""

    text: str
    """Its syntax tree without comments, docstrings and layout."""
    imports: frozenset[str]
    """Our modules that it imports."""
    libraries: frozenset[str]
    """Top packages of others that it imports, other than for types alone."""
    names: frozenset[tuple[str, str]]
    """Modules of contracts, and what it imports from them."""


@dataclass(frozen=True)
class _Definition:
    """A constant or function of a module."""

    text: str
    """Its syntax tree."""
    uses: frozenset[tuple[str, str]]
    """Our modules, and the names of each that it uses."""


def code_sha256(module: str) -> str:
    """Return a sha256 over the syntax trees of a stage's module and all it imports from us."""
    digest = hashlib.sha256()
    waiting: set[tuple[str, str]] = set()
    for name in sorted(_closure(module)):
        digest.update(f"{name}\n{read_code(name)}\n".encode())
        waiting |= _parse(name).names
    found: dict[tuple[str, str], str] = {}
    while waiting:
        place = of, name = waiting.pop()
        definition = _definitions(of).get(name)
        if definition and place not in found:
            found[place] = definition.text
            waiting |= definition.uses
    for (of, name), text in sorted(found.items()):
        digest.update(f"{of}.{name}\n{text}\n".encode())
    return digest.hexdigest()


def imported_libraries(module: str) -> frozenset[str]:
    """Return the top packages of others that a stage's module, and all it imports from us, import."""
    return frozenset(library for name in _closure(module) for library in _parse(name).libraries)


def _closure(module: str) -> set[str]:
    """Follow our own imports from one module, wherever in the file they are."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or (name in CONTRACT_MODULES and name != module):
            continue
        found.add(name)
        waiting.extend(_parse(name).imports)
    return found


def read_code(module: str) -> str:
    """Return a module's syntax tree without comments, docstrings and layout: its behaviour."""
    return _parse(module).text


@cache
def _parse(module: str) -> _Source:
    """Read a module once."""
    tree = _read_tree(module)
    modules: set[str] = set()
    names: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
            names.update((node.module, alias.name) for alias in node.names)
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    # `from tasks.engine import cache` imports a module, `from tasks.engine.cache import look_up` a name.
    ours = {name for name in modules if _is_ours(name)}
    dotted = {f"{of}.{name}" for of, name in names}
    ours |= {name for name in dotted if _is_ours(name) and _path(name)}
    return _Source(
        text=ast.dump(tree),
        imports=frozenset(ours | {package for name in ours for package in _parents(name)}),
        libraries=frozenset(_libraries(tree)),
        names=frozenset((of, name) for of, name in names if _is_value_contract(of)),
    )


def _read_tree(module: str) -> ast.Module:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"there is no file of module {module}", name=module)
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _definitions(module: str) -> dict[str, _Definition]:
    """Return each constant and function of a module."""
    tree = _read_tree(module)
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module)
        for alias in node.names
    }
    found: dict[str, _Definition] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            defined = [node.name]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined = [one.id for one in targets if isinstance(one, ast.Name)]
        else:
            continue
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        uses = frozenset(imported.get(name, (module, name)) for name in names)
        found |= dict.fromkeys(defined, _Definition(ast.dump(node), uses))
    return found


def _libraries(tree: ast.Module) -> Iterator[str]:
    """Yield the top packages of others that a module imports when it runs."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        modules: list[str] = []
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules = [node.module]
        tops = {module.partition(".")[0] for module in modules}
        yield from (top for top in tops if top not in sys.stdlib_module_names and not _is_ours(top))
        waiting.extend(ast.iter_child_nodes(node))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("tasks", "schemas")


def _is_value_contract(module: str) -> bool:
    return module in CONTRACT_MODULES and module.startswith("schemas.")


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
