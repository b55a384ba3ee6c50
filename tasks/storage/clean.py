"""Remove what old runs left in the work directory; a later run computes what it misses."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from schemas.base import Record
from schemas.config.storage import StorageConfig
from tasks.engine.active_runs import earliest_start
from tasks.engine.files import modified_at
from tasks.engine.home import work_directory
from tasks.storage.needed import needed_outputs
from tasks.storage.outputs import STAGES, StoredOutput, folder_bytes, list_outputs
from tasks.storage.unfinished import (
    DAY_SECONDS,
    abandoned_trainings,
    forget,
    list_trainings,
    lock_at_once,
    remove_leftovers,
    remove_training,
)

GIGABYTE = 1_000_000_000
OLD_FILES = ("runs/*.jsonl", "results/*", "evaluation-server-*.log")
"""Journals, results and logs, which are removed by age only."""


class Removed(Record):
    """What was removed, or would be."""

    path: str
    """Relative to the work directory."""
    n_bytes: int
    reason: str
    """unfinished, age or size."""


class CleanReport(Record):
    """What `sft-flow clean` did."""

    work_directory: str
    is_dry_run: bool
    removed: tuple[Removed, ...]
    n_freed_bytes: int
    n_kept_bytes: int | None
    """Of outputs and of evidence against rejected data; None without limits, which nothing is measured for."""
    n_needed_bytes: int | None
    """Of these, what an alias, an unfinished training or a run in progress needs."""


def clean(limits: StorageConfig, *, is_dry_run: bool = False) -> CleanReport:
    """Remove what killed processes left, and outputs beyond the limits.

    Outputs that an alias, an unfinished training or a run in progress needs stay. A training that
    has written nothing for longer than the limit of age is abandoned: its checkpoints are removed.

    Args:
        limits: Age and size; without them, only what killed processes left is removed.
        is_dry_run: Report only.

    Returns:
        What was removed.

    Raises:
        ServiceUnreachable: The registry does not answer; nothing was removed.
    """
    has_limits = limits != StorageConfig()
    outputs = list_outputs() if has_limits else []
    # After the list: what a run that starts later uses has another time then, which is noticed.
    since = earliest_start()
    oldest = _oldest(limits, since)
    abandoned = abandoned_trainings(oldest)
    trainings = [one for one in list_trainings() if one not in abandoned]
    needed = needed_outputs(outputs, trainings) if has_limits else set()
    used = {one.path for one in outputs if one.path in needed or one.used_at >= since}
    removed = [
        _removed(path, n_bytes, "unfinished")
        for path, n_bytes in remove_leftovers(since, is_dry_run=is_dry_run)
    ]
    for folder in abandoned:
        n_bytes = folder_bytes(folder)
        if is_dry_run or remove_training(folder, oldest):
            removed.append(_removed(folder, n_bytes, "age"))
    n_kept = sum(one.n_bytes for one in outputs)
    for one, reason in choose_outputs(outputs, used, limits, time.time()):
        if is_dry_run or remove_output(one):
            removed.append(Removed(path=one.folder, n_bytes=one.n_bytes, reason=reason))
            n_kept -= one.n_bytes
    removed.extend(_remove_old_files(oldest, is_dry_run=is_dry_run))
    return CleanReport(
        work_directory=str(work_directory()),
        is_dry_run=is_dry_run,
        removed=tuple(removed),
        n_freed_bytes=sum(one.n_bytes for one in removed),
        n_kept_bytes=n_kept if has_limits else None,
        n_needed_bytes=sum(one.n_bytes for one in outputs if one.path in used)
        if has_limits
        else None,
    )


def choose_outputs(
    outputs: list[StoredOutput], used: set[Path], limits: StorageConfig, now: float
) -> list[tuple[StoredOutput, str]]:
    """Choose what to remove: what is too old, then what was not used for longest until the rest fits.

    Args:
        outputs: All outputs, the one not used for longest first.
        used: Folders to keep.
        limits: Age and size.
        now: Seconds since 1970.

    Returns:
        Outputs with the limit, age or size, that they are beyond.
    """
    days, size = limits.max_age_days, limits.max_size_gb
    oldest = float("-inf") if days is None else now - days * DAY_SECONDS
    room = float("inf") if size is None else size * GIGABYTE
    chosen: list[tuple[StoredOutput, str]] = []
    total = sum(one.n_bytes for one in outputs)
    for one in outputs:
        is_old = one.used_at < oldest
        if one.path not in used and (is_old or total > room):
            chosen.append((one, "age" if is_old else "size"))
            total -= one.n_bytes
    return chosen


def remove_output(output: StoredOutput) -> bool:
    """Remove an output, unless a run computes it or has used it since it was listed.

    It is moved away first: a run that looks it up notes that it uses it before it reads, so that the
    note is either seen here, or made in vain.
    """
    path = output.path
    # Evidence is written under the lock of the output that was not to be.
    computed = work_directory() / STAGES / output.stage / path.name
    with lock_at_once(computed.with_name(f"{path.name}.lock")) as is_locked:
        condemned = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:12]}")
        if not is_locked or not path.exists():
            return False
        path.rename(condemned)
        if condemned.stat().st_mtime != output.used_at:
            condemned.rename(path)
            return False
        shutil.rmtree(condemned, ignore_errors=True)
        if not computed.exists():
            forget(computed)
        return True


def _oldest(limits: StorageConfig, since: float) -> float:
    """Return from when on things stay whatever they are; without a limit of age, all do."""
    if limits.max_age_days is None:
        return float("-inf")
    return min(time.time() - limits.max_age_days * DAY_SECONDS, since)


def _remove_old_files(oldest: float, *, is_dry_run: bool) -> Iterator[Removed]:
    """Remove journals and logs by age; the newest journal is what `status` shows."""
    for pattern in OLD_FILES:
        files = sorted(work_directory().glob(pattern), key=modified_at)
        for path in files[:-1]:
            if path.is_file() and modified_at(path) < oldest:
                n_bytes = path.stat().st_size
                if not is_dry_run:
                    path.unlink(missing_ok=True)
                yield _removed(path, n_bytes, "age")


def _removed(path: Path, n_bytes: int, reason: str) -> Removed:
    name = path.relative_to(work_directory()).as_posix()
    return Removed(path=name, n_bytes=n_bytes, reason=reason)
