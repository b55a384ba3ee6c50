"""Run a command and measure its time and the memory of its whole process tree from outside."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Measured:
    """Time and memory of a command."""

    seconds: float
    peak_memory_bytes: int
    """Largest sum of the proportional set sizes of all processes of the tree, so that pages
    shared by two processes count once."""
    largest_process_bytes: int
    """Largest resident set of any one of them, shared pages included."""


def tree_memory_bytes(process: psutil.Process) -> tuple[int, int]:
    """Add up the memory of a process and all its descendants.

    Args:
        process: The root of the tree.

    Returns:
        Sum of proportional set sizes, and the largest resident set.
    """
    total, largest = 0, 0
    try:
        members = (process, *process.children(recursive=True))
    except psutil.NoSuchProcess:
        return 0, 0
    for member in members:
        try:
            memory = member.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(memory, "pss", memory.uss)  # macOS tells no shares of common pages
        largest = max(largest, memory.rss)
    return total, largest


def measure(
    command: Sequence[str], environment: Mapping[str, str], log: Path, sample_seconds: float
) -> Measured:
    """Run a command, sampling the memory of its process tree.

    Args:
        command: Program and arguments.
        environment: Environment variables.
        log: File for the output.
        sample_seconds: Time between samples, which is also how exact the time is.

    Returns:
        Time and memory.

    Raises:
        SystemExit: The command failed.
    """
    started = time.monotonic()
    peak, largest = 0, 0
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        root = psutil.Process(process.pid)
        while process.poll() is None:
            total, most = tree_memory_bytes(root)
            peak, largest = max(peak, total), max(largest, most)
            time.sleep(sample_seconds)
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}:\n{log.read_text()}")
    return Measured(time.monotonic() - started, peak, largest)
