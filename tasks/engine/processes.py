"""Identity of processes, which a step of the clock does not change."""

from __future__ import annotations

import psutil


def identify(pid: int) -> str:
    """Return id and start of a process, which no later process has; the id alone when it is gone.

    The start is counted from the start of the machine, because `create_time` changes with the clock,
    when it is set or the machine wakes up.
    """
    try:
        return f"{pid}:{psutil.Process(pid)._ident[1]}"
    except psutil.NoSuchProcess:
        return str(pid)


def find_process(identity: str) -> psutil.Process | None:
    """Return the process that `identify` named; None if it has ended, even if its id is in use again."""
    pid = int(identity.partition(":")[0])
    try:
        process = psutil.Process(pid)
        is_alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if is_alive and identify(pid) == identity else None
