"""Limits of this process: processors and memory, as affinity mask and container allow them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes a number near 2^63 where there is no limit."""
LIMIT_NAMES = ("memory.max", "memory.limit_in_bytes")
USAGE_NAMES = ("memory.current", "memory.usage_in_bytes")


def count_processors() -> int:
    """Count the logical processors that affinity mask and container quota allow, at least one."""
    n_processors = len(allowed_processors()) or os.cpu_count() or 1
    quota = processor_quota()
    return n_processors if quota is None else max(1, min(n_processors, int(quota)))


def allowed_processors() -> frozenset[int]:
    """Return the numbers in the affinity mask; none where the system has no masks, as macOS."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux


def available_memory_bytes(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> int | None:
    """Read how much memory the tightest control group of this process still allows.

    Limit less usage, with reclaimable file pages counted as free; None without a limit.

    Source:
        Linux kernel, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
    """
    found = []
    for folder in _group_folders(root, own_groups, "memory"):
        limit = _first_number(folder, LIMIT_NAMES)
        if limit is None or limit >= UNLIMITED_BYTES:
            continue
        usage = _first_number(folder, USAGE_NAMES) or 0
        found.append(max(0, limit - max(0, usage - _inactive_file_bytes(folder))))
    return min(found, default=None)


def processor_quota(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> float | None:
    """Return quota over period (e.g. 1.5) of the tightest control group; None without a quota."""
    found = []
    for folder in _group_folders(root, own_groups, "cpu"):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _group_folders(root: Path, own_groups: Path, controller: str) -> Iterator[Path]:
    """List the folders of the process's group and of those above it, for either version."""
    for line in _read(own_groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mounted = root / controllers if controllers else root
        if controllers and not mounted.is_dir():
            mounted = root / controller
        own = mounted / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(mounted))


def _inactive_file_bytes(folder: Path) -> int:
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0


def _first_number(folder: Path, names: tuple[str, ...]) -> int | None:
    for name in names:
        text = _read(folder / name).strip()
        if text.isdigit():
            return int(text)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
