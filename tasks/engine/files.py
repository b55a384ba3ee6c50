"""Atomic writes: a file is complete or not there, and an old one is kept until the new one is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.errors import WorkDirectoryError


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that readers see the old content or the new, never a part."""
    scratch = _scratch_path(path)
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def open_atomic(path: Path | None) -> Iterator[Any]:
    """Open a file that gets its name, in a folder made for it, when the block ends without error.

    Args:
        path: The file; None: nothing is written.

    Yields:
        A binary stream, or None.

    Raises:
        WorkDirectoryError: The file cannot be created.
    """
    if path is None:
        yield None
        return
    scratch = _scratch_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = scratch.open("wb")
    except OSError as error:
        raise WorkDirectoryError(
            f"{path.name} cannot be written: {error.strerror or error}",
            where=str(path.parent),
            fix="name a folder you may write to",
        ) from error
    try:
        with stream:
            yield stream
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _scratch_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
