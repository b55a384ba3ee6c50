"""Versions of the libraries that shape a stage's output."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from functools import cache

from tasks.engine._code_hash import imported_libraries
from tasks.engine.extras import PACKAGES

SHAPELESS = {
    "aiohttp": "moves bytes, whose content the key contains",
    "filelock": "makes processes wait",
    "fsspec": "moves bytes, whose content the key contains",
    "httpx": "moves bytes, whose content the key contains",
    "huggingface_hub": "moves files of a commit that the key contains",
    "matplotlib": "draws what is also stored as numbers",
    "mlflow": "moves files, or watches; a stage that writes its formats names it",
    "packaging": "compares versions",
    "prefect": "runs the stages",
    "psutil": "measures memory and processes",
    "pydantic": "checks values that the key contains",
    "requests": "moves bytes; answers of a server depend on the server",
    "urllib3": "moves bytes; answers of a server depend on the server",
    "yaml": "writes settings that the key contains, and reads files by a fixed standard",
}
"""Imported by stages, but another version gives the same output; and why."""
COMPANIONS = {
    "datasets": ("pandas",),
    "transformers": ("causal-conv1d", "jinja2", "mamba-ssm", "tokenizers"),
}
"""Libraries that a library computes with for us, without being imported here."""


def shaping_libraries(module: str, named: Iterable[str] = ()) -> frozenset[str]:
    """Return the packages whose version belongs to the key of a stage.

    Args:
        module: The stage's module, of which all imports count, wherever they are.
        named: Packages that the stage loads by name or in another process.

    Returns:
        Names of packages; not all of them need to be installed.
    """
    imported = imported_libraries(module) - SHAPELESS.keys()
    companions = {one for library in imported for one in COMPANIONS.get(library, ())}
    return imported | companions | set(named)


def library_versions(module: str, named: Iterable[str] = ()) -> dict[str, str]:
    """Return the version of each library of `shaping_libraries` that is installed.

    What a setting asks for and is not installed has no part in the output: the stage fails.
    """
    versions = {one: _version(one) for one in sorted(shaping_libraries(module, named))}
    return {library: version for library, version in versions.items() if version}


@cache
def _version(library: str) -> str:
    """Return an installed version, looked up once, as a library is loaded; empty without one."""
    try:
        return importlib.metadata.version(PACKAGES.get(library, library))
    except importlib.metadata.PackageNotFoundError:
        return ""
