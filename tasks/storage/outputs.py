"""The outputs of stages in the work directory: when they were used last, and what they were made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.engine.cache import MANIFEST
from tasks.engine.home import work_directory

STAGES, EVIDENCE = "stages", "rejected"
INPUT = "input "
"""Parts of a key with the content of an earlier stage's output begin so."""


@dataclass(frozen=True)
class StoredOutput:
    """The output of a stage, or the evidence against rejected data."""

    path: Path
    n_bytes: int
    used_at: float
    """When it was written or looked up last, in seconds since 1970."""
    sha256: str = ""
    """Of the content that later stages read; empty where the manifest is damaged."""
    key: dict[str, str] = field(default_factory=dict)
    """Parts of its key."""
    result: dict[str, Any] = field(default_factory=dict)
    """The record that the stage returned."""

    @property
    def folder(self) -> str:
        """Return its place in the work directory."""
        return self.path.relative_to(work_directory()).as_posix()

    @property
    def stage(self) -> str:
        """Return the name of the stage."""
        return self.path.parent.name

    @property
    def inputs(self) -> set[str]:
        """Return the sha256 of each output that it was made of."""
        return {text for name, text in self.key.items() if name.startswith(INPUT)}


def list_outputs() -> list[StoredOutput]:
    """List complete outputs and the evidence against rejected data, in the order of their last use."""
    home = work_directory()
    found = [
        read_output(path)
        for place in (STAGES, EVIDENCE)
        for path in home.glob(f"{place}/*/[!.]*")
        if path.is_dir()
    ]
    return sorted((one for one in found if one), key=lambda one: (one.used_at, one.folder))


def read_output(path: Path) -> StoredOutput | None:
    """Read what is known of one output; None if it is gone."""
    try:
        used_at, n_bytes = path.stat().st_mtime, folder_bytes(path)
    except FileNotFoundError:
        return None
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        key, result = dict(manifest["key"]), dict(manifest["result"])
        return StoredOutput(path, n_bytes, used_at, str(result["sha256"]), key, result)
    except (OSError, ValueError, KeyError, TypeError):
        return StoredOutput(path, n_bytes, used_at)


def folder_bytes(path: Path) -> int:
    """Return the size of all files in a folder; of those that disappear meanwhile, 0."""
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.lstat().st_size if not file.is_dir() else 0
        except FileNotFoundError:
            continue
    return total
