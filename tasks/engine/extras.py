"""The requirements of sft-flow's own package, and which extra brings one that is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from schemas.errors import MissingExtra

DISTRIBUTION = "sft-flow"
BASE = ""
"""The package without extras: the data gate."""
FLOW = "train"
"""The extra that every command besides the data gate needs."""
FOR_DEVELOPERS = frozenset({"coverage", "dev", "fuzz", "mutate", "test-gate", "services"})
"""Extras for tests and checks."""
PACKAGES = {
    "phonenumbers": "phonenumberslite",
    "psycopg2": "psycopg2-binary",
    "ruamel": "ruamel.yaml",
    "stdnum": "python-stdnum",
    "yaml": "pyyaml",
}
"""Package of a module with another name."""


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Read the package's metadata; extras that only combine others have no requirements here.

    Yields:
        The extra, `BASE` for every installation, and the requirement.

    Raises:
        importlib.metadata.PackageNotFoundError: sft-flow itself is not installed.
    """
    found = importlib.metadata.distribution(DISTRIBUTION)
    extras = (BASE, *(found.metadata.get_all("Provides-Extra") or ()))
    for line in found.requires or ():
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == DISTRIBUTION:
            continue
        of = (
            one
            for one in extras
            if not requirement.marker or requirement.marker.evaluate({"extra": one})
        )
        for extra in of:
            yield extra, requirement
            break


def missing_extra(module: str, needed_by: str) -> MissingExtra | None:
    """Make the error for a module that cannot be imported; None if it is not of an extra.

    Args:
        module: Name of the module.
        needed_by: What needs it: a command or a setting.

    Returns:
        The error to raise or to show.
    """
    top = module.partition(".")[0]
    if _is_installed(top):  # another version of it lacks the module
        return None
    package = canonicalize_name(PACKAGES.get(top, top))
    try:
        extra = next((e for e, r in requirements() if canonicalize_name(r.name) == package), BASE)
    except importlib.metadata.PackageNotFoundError:
        return None
    if extra == BASE:
        return None
    return MissingExtra(
        f"{needed_by} needs the extra {extra} (package {package} is not installed)",
        fix=f"pip install '{DISTRIBUTION}[{extra}]'",
    )


def require(module: str, needed_by: str) -> None:
    """Raise MissingExtra if a module of an extra is not installed."""
    if error := missing_extra(module, needed_by):
        raise error


def _is_installed(top: str) -> bool:
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False
