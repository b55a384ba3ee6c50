"""One at a time, across processes: the second reports that it waits, and waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def take_turns(path: Path, tell: Callable[[str], object], sentence: str) -> Iterator[None]:
    """Lock a file, in a folder made for it; `tell` gets the sentence if another process has it.

    The lock is released when the process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(sentence)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
