"""Runs in progress: what they use is not removed."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.engine.files import modified_at
from tasks.engine.home import work_directory
from tasks.engine.scratch import remove_abandoned

CLOCK_SECONDS = 2.0
"""File systems keep times less exactly than clocks do."""


def markers_folder() -> Path:
    """Return the folder with one locked file for each run in progress."""
    return work_directory() / "active"


@contextmanager
def active_run() -> Iterator[None]:
    """Mark a run as in progress; the mark of a process that dies counts no longer.

    The start is that of the clock that the times of outputs have, which is a file server's on a
    shared folder. It is in the name, because locking a file writes it again.
    """
    remove_abandoned()
    folder = markers_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".partial") as stamp:
        started = modified_at(Path(stamp.name))
    path = folder / f"{started - CLOCK_SECONDS:.3f}-{_place()}-{uuid.uuid4().hex[:12]}.lock"
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def earliest_start() -> float:
    """Return when the oldest run in progress began, in seconds since 1970; infinity without one.

    What a run uses was used since then. Marks of dead processes are removed.
    """
    return min((float(path.name.split("-")[0]) for path in _marks()), default=float("inf"))


def is_used_elsewhere() -> bool:
    """Return whether a run in progress knows the work directory by another path than this process."""
    return any(path.name.split("-")[1] != _place() for path in _marks())


def _place() -> str:
    return hashlib.sha256(str(work_directory()).encode()).hexdigest()[:8]


def _marks() -> Iterator[Path]:
    """Yield the marks of runs in progress, and remove those of dead processes."""
    for path in markers_folder().glob("*.lock"):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            yield path
