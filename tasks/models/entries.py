"""What a model's folder may contain: files and folders of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from schemas.errors import ModelSourceError


def refuse_other_entries(folder: Path) -> None:
    """Refuse what is neither a file nor a folder of the model: pipes, devices, links that lead out.

    A pipe is read without end. Links of the Hub's cache lead to its blobs.

    Args:
        folder: Of the model.

    Raises:
        ModelSourceError: There is such an entry.
    """
    inside = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        inside.append(folder.resolve().parents[1] / "blobs")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            _check_link(path, folder, inside)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ModelSourceError(
                "the model has an entry that is no file",
                where=str(path),
                expected="files of the model",
                got="a named pipe, a socket or a device",
                fix="remove it, or download the model again",
            )


def _check_link(path: Path, folder: Path, inside: Iterable[Path]) -> None:
    target = Path(os.path.realpath(path))
    if not any(target.is_relative_to(allowed) for allowed in inside):
        raise ModelSourceError(
            "the model has a link to a file outside its folder",
            where=str(path),
            expected="files of the model",
            got=f"a link to {target}",
            fix=f"copy the files if they are yours: cp -rL {folder} NEW_FOLDER",
        )
