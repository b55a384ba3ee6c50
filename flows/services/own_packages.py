"""A folder with a package `flows`, `tasks` or `schemas` of its own, where a run would import it.

Prefect puts a run's folder first on the import path. sft-flow's own processes do not, so only the
runs of deployments are affected.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

OURS = Path(__file__).resolve().parents[2]
"""Folder of sft-flow's packages: site-packages, or a clone."""
NAMES = ("flows", "tasks", "schemas")


def hiding_packages(folder: Path) -> tuple[Path, ...]:
    """Find what a deployment's run in a folder would import instead of sft-flow's packages.

    A folder without `__init__.py` hides an editable installation only: Python prefers a regular
    package anywhere on the import path.
    """
    if folder.resolve() == OURS:
        return ()
    is_editable = OURS not in {Path(entry).resolve() for entry in sys.path}
    packages = [folder / name for name in NAMES]
    modules = [folder / f"{name}.py" for name in NAMES]
    return (
        *(path for path in packages if (path / "__init__.py").is_file()),
        *(path for path in modules if path.is_file()),
        *(path for path in packages if is_editable and path.is_dir() and _is_plain(path)),
    )


def _is_plain(folder: Path) -> bool:
    return not (folder / "__init__.py").exists() and any(folder.glob("*.py"))


def hidden_message(found: Path) -> str:
    """Write in one sentence what hides a package of sft-flow, and what to do."""
    return (
        f"{found} hides sft-flow's package {found.stem} from deployments that run in this folder: "
        "rename it, or let them run in another folder (set_working_directory in prefect.yaml)"
    )


def require_own_packages() -> None:
    """Raise ImportError if `tasks` or `schemas` is not sft-flow's."""
    for name in NAMES[1:]:
        spec = importlib.util.find_spec(name)
        places = (spec.submodule_search_locations or [spec.origin or ""]) if spec else []
        found = next((Path(place) for place in places), OURS / name)
        if found.resolve() != OURS / name:
            raise ImportError(hidden_message(found))
