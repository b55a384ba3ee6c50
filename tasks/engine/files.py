"""Atomic writes: a file is complete or not there, and an old one is kept until the new one is."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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


def require_new_files(folder: Path, names: Iterable[str]) -> None:
    """Check that a folder, which need not exist, has none of these files.

    Args:
        folder: The folder.
        names: Of the files.

    Raises:
        WorkDirectoryError: The folder is a file, or one of the files exists.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise WorkDirectoryError(
            f"{folder} is not a folder",
            where=str(folder),
            expected="a folder, or a name that is free",
            got="a file",
            fix="name another folder",
        )
    existing = [name for name in names if os.path.lexists(folder / name)]
    if existing:
        raise WorkDirectoryError(
            f"{' and '.join(existing)} would be overwritten; nothing was written",
            where=str(folder.absolute()),
            expected=f"a folder without {', '.join(names)}",
            got=", ".join(existing),
            fix="name another folder, or move these files away",
        )


def write_new_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Write text files into a folder, made for them if it is missing: all of them or none.

    Args:
        folder: The folder.
        texts: Content of each file by its name; existing files are never overwritten.

    Raises:
        WorkDirectoryError: One of the files exists, or cannot be written.
    """
    require_new_files(folder, texts)
    contents = {folder / name: text.encode("utf-8") for name, text in texts.items()}
    scratch = {path: _scratch_path(path) for path in contents}
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    undone: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            scratch[path].write_bytes(content)  # is there room for all of them?
        for path, content in contents.items():
            with path.open("xb") as stream:  # fails where a file has appeared meanwhile
                undone.append(path)
                stream.write(content)
        undone, made = [], []
    except OSError as error:
        raise WorkDirectoryError(
            f"{' and '.join(texts)} cannot be written: {error.strerror or error}",
            where=str(folder.absolute()),
            fix="name a folder you may write to",
        ) from error
    finally:
        with suppress(OSError):
            for path in (*scratch.values(), *undone):
                path.unlink(missing_ok=True)
            for path in made:
                path.rmdir()


def modified_at(path: Path) -> float:
    """Return when a file was written, in seconds since 1970; for one that is gone, now."""
    with suppress(FileNotFoundError):
        return os.stat(path).st_mtime
    return time.time()


def _scratch_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
