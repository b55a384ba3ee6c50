"""One at a time, across processes: who comes second says so and waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def take_turns(path: Path, tell: Callable[[str], object], sentence: str) -> Iterator[None]:
    """Hold a lock, and wait as long as another process does.

    Args:
        path: The lock file; its folder is made.
        tell: Gets the sentence when there is another to wait for.
        sentence: Says what is waited for.

    Yields:
        Nothing, while the lock is held; it is released when the process ends, however it ends.
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
