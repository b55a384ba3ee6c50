"""Temporary folders that are removed also if the process that made them is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "sft-flow-scratch-"
LOCK = "sft-flow-scratch.lock"
"""Held as long as the process lives. No folder but ours has this file: others have names like ours."""
FILES = "files"
"""The folder that is given out, so that no library finds the lock in it."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder in `TMPDIR`, and remove it with everything in it when the block ends.

    What a killed process left is removed by the next call.

    Yields:
        The folder.
    """
    remove_abandoned()
    # Locked before it has its name, or another process could take it for an abandoned one.
    folder = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    lock = FileLock(folder / LOCK)
    try:
        with suppress(OSError, NotImplementedError):  # a file system without locks
            lock.acquire()
            folder = folder.rename(folder.with_name(folder.name.removeprefix(".")))
        (folder / FILES).mkdir()
        yield folder / FILES
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


@contextmanager
def libraries_in_scratch() -> Iterator[None]:
    """Let a library in this process make its temporary files in a scratch folder."""
    before = tempfile.tempdir
    with scratch_folder() as folder:
        tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


def remove_abandoned() -> None:
    """Remove the scratch folders of this user's processes that were killed."""
    with suppress(OSError):  # there may be no folder for temporary files at all
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    with suppress(OSError, NotImplementedError, Timeout):
        is_ours = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
        if is_ours and (folder / LOCK).is_file():
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
