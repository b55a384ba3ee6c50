"""What killed processes left, and the checkpoints of abandoned trainings."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.engine.files import modified_at
from tasks.engine.home import work_directory
from tasks.storage.outputs import EVIDENCE, STAGES, folder_bytes

DAY_SECONDS = 86_400.0
PARTIAL_FILES = (".*.partial", "*/.*.partial", "stages/*/.*.partial")
"""Files that were being written, as `write_atomic` names them."""


def list_trainings() -> list[Path]:
    """Return the folders with the checkpoints of trainings that have not ended."""
    return sorted(path for path in work_directory().glob("checkpoints/[!.]*") if path.is_dir())


def abandoned_trainings(oldest: float) -> list[Path]:
    """Return the folders of trainings that have written nothing since, and that no process has."""
    return [one for one in list_trainings() if last_written(one) < oldest and not _is_training(one)]


def remove_training(folder: Path, oldest: float) -> bool:
    """Remove the checkpoints of an abandoned training, unless it was continued meanwhile."""
    # Moved away first: a training of the same key then begins in a folder of its own.
    condemned = folder.with_name(f".tmp-{folder.name}-{uuid.uuid4().hex[:12]}")
    if last_written(folder) >= oldest:
        return False
    with lock_at_once(folder / ".lock") as is_locked:
        # The lock file may have been created here, so that only what is in the folder counts.
        if not is_locked or _last_written_inside(folder) >= oldest:
            return False
        folder.rename(condemned)
        shutil.rmtree(condemned, ignore_errors=True)
        return True


def remove_leftovers(since: float, *, is_dry_run: bool) -> Iterator[tuple[Path, int]]:
    """Remove incomplete outputs of killed processes, and locks that no output belongs to.

    On a shared file system, locks may be known to one machine only, so that what was written within
    a day stays.

    Args:
        since: Locks that were taken later stay.
        is_dry_run: Remove nothing; yield what would be removed.

    Yields:
        What was removed, and its bytes.
    """
    home, day_ago = work_directory(), time.time() - DAY_SECONDS
    for scratch in home.glob(f"{STAGES}/*/.tmp-*"):
        if last_written(scratch) >= day_ago:
            continue
        digest = scratch.name.split("-")[1]
        with lock_at_once(scratch.with_name(f"{digest}.lock")) as is_locked:
            if is_locked and scratch.exists():
                yield scratch, _remove(scratch, is_dry_run=is_dry_run)
    for lock in home.glob(f"{STAGES}/*/*.lock"):
        path = lock.with_suffix("")
        if is_dry_run or path.exists() or modified_at(lock) >= since:
            continue
        with lock_at_once(lock) as is_locked:
            if is_locked and not path.exists():
                forget(path)
    places = (*PARTIAL_FILES, "checkpoints/.tmp-*", f"{EVIDENCE}/*/.tmp-*")
    for path in (path for place in places for path in home.glob(place)):
        if last_written(path) < day_ago:
            yield path, _remove(path, is_dry_run=is_dry_run)


@contextmanager
def lock_at_once(path: Path) -> Iterator[bool]:
    """Lock a file if no process has it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def forget(path: Path) -> None:
    """Remove the files next to an output that is gone; its lock is held, which lockers notice."""
    for ending in ("generation", "lock"):
        path.with_name(f"{path.name}.{ending}").unlink(missing_ok=True)


def last_written(path: Path) -> float:
    """Return when a file, or a folder or anything in it, was written last; of one that is gone, now."""
    return max(modified_at(path), _last_written_inside(path))


def _last_written_inside(folder: Path) -> float:
    """Leave out hidden files: looking whether a lock is free writes it."""
    found = (one for one in folder.rglob("*") if not one.name.startswith("."))
    return max(map(modified_at, found), default=0.0)


def _is_training(folder: Path) -> bool:
    """Return whether a process has the folder; creates no lock, which would make the folder new."""
    lock = folder / ".lock"
    if not lock.exists():
        return False
    with lock_at_once(lock) as is_locked:
        return not is_locked


def _remove(path: Path, *, is_dry_run: bool) -> int:
    """Remove a file or folder and return its bytes."""
    if path.is_dir():
        n_bytes = folder_bytes(path)
        if not is_dry_run:
            shutil.rmtree(path, ignore_errors=True)
        return n_bytes
    n_bytes = path.stat().st_size if path.exists() else 0
    if not is_dry_run:
        path.unlink(missing_ok=True)
    return n_bytes
