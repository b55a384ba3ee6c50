"""Complete checkpoints: written elsewhere, sealed with a manifest, then renamed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash
from filelock import FileLock, Timeout
from pydantic import ValidationError

from schemas.base import Record
from schemas.errors import TrainingError

WRITING = "writing"
"""Folder the trainer writes to; its content is not complete yet."""
MANIFEST = "manifest.json"
ORPHAN_SECONDS = 600.0
"""Time an orphaned training of the same key gets to finish its step, save and stop."""


class CheckpointManifest(Record):
    """Fingerprint and files of a checkpoint."""

    step: int
    fingerprint: dict[str, str]
    """Everything that affects the weights, by name; other checkpoints are never resumed."""
    files: dict[str, str]
    """XXH3 (128 bit) of each file, by its path in the folder."""


@contextmanager
def hold_lock(checkpoints: Path, wait_seconds: float = ORPHAN_SECONDS) -> Iterator[None]:
    """Keep other processes from training into the same folder.

    Args:
        checkpoints: The folder of the training.
        wait_seconds: How long to wait until another process ends.

    Yields:
        Nothing; the lock is held.

    Raises:
        TrainingError: The other process has not ended.
    """
    lock = FileLock(checkpoints / ".lock")
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise TrainingError(
            "another process is still training the same model on the same rows",
            where=str(checkpoints),
            got=f"no end after {wait_seconds:g} s",
            fix="wait for it, or end it, then run again: it leaves a checkpoint to resume from",
        ) from error
    try:
        yield
    finally:
        lock.release()


def checkpoint_step(folder: Path) -> int:
    """Read the step from the name `checkpoint-<step>`."""
    return int(folder.name.removeprefix("checkpoint-"))


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """List the sealed checkpoints of a training by rising step."""
    found = [path for path in checkpoints.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(found, key=checkpoint_step)


def seal_checkpoint(checkpoints: Path, step: int, fingerprint: dict[str, str]) -> Path:
    """Turn what the trainer has written into a checkpoint, at once, and return its folder."""
    written = checkpoints / WRITING / f"checkpoint-{step}"
    manifest = CheckpointManifest(step=step, fingerprint=fingerprint, files=_digests(written))
    (written / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    sealed = checkpoints / written.name
    if sealed.exists():  # the same step again, after a resume: both are the same
        shutil.rmtree(written)
    else:
        written.rename(sealed)
    return sealed


def last_whole_checkpoint(
    checkpoints: Path, fingerprint: dict[str, str], tell: Callable[[str], None]
) -> Path | None:
    """Find where to resume; remove checkpoints that are incomplete, damaged or of another training.

    Args:
        checkpoints: The folder of the training.
        fingerprint: Everything that affects the weights, by name.
        tell: Receives a sentence for each checkpoint that is skipped.

    Returns:
        The newest complete checkpoint of this training, or None.
    """
    shutil.rmtree(checkpoints / WRITING, ignore_errors=True)
    for folder in reversed(list_checkpoints(checkpoints)):
        fault = find_fault(folder, fingerprint)
        if not fault:
            return folder
        tell(f"{folder.name} is not resumed: {fault}")
        shutil.rmtree(folder)
    return None


def find_fault(folder: Path, fingerprint: dict[str, str]) -> str:
    """Return why a checkpoint must not be resumed; empty when nothing is wrong."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        manifest = CheckpointManifest.model_validate_json(text)
        present = _digests(folder)
    except (OSError, ValidationError):
        return "its manifest is missing or unreadable"
    damaged = _differing(manifest.files, present)
    if damaged:
        return f"damaged: {', '.join(damaged)}"
    changed = _differing(manifest.fingerprint, fingerprint)
    return f"it belongs to another training: {', '.join(changed)} differ" if changed else ""


def prune_checkpoints(checkpoints: Path, n_last: int, best_step: int | None) -> None:
    """Remove all checkpoints but the newest and that of the best step."""
    for folder in list_checkpoints(checkpoints)[:-n_last]:
        if checkpoint_step(folder) != best_step:
            shutil.rmtree(folder)


def _differing(left: dict[str, str], right: dict[str, str]) -> list[str]:
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name != MANIFEST:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, xxhash.xxh3_128)
            digests[str(path.relative_to(folder))] = digest.hexdigest()
    return digests
