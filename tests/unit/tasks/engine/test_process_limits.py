from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import tasks.engine.process_limits as limits
from tasks.engine.process_limits import (
    allowed_processors,
    available_memory_bytes,
    count_processors,
    peak_memory_bytes,
    processor_quota,
)


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 6), (64.0, 6), (2.0, 2), (2.9, 2), (0.5, 1)]
)
def test_processors_are_those_of_the_mask_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(limits, "processor_quota", lambda: quota)
    assert count_processors() == expected


def test_system_without_masks_counts_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.setattr(limits, "processor_quota", lambda: None)
    assert allowed_processors() == frozenset()
    assert count_processors() == 10
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_processors() == 1


@pytest.mark.parametrize(("platform", "unit_bytes"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_everywhere(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit_bytes: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=5000))
    assert peak_memory_bytes() == 5000 * unit_bytes


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_version_2_takes_the_tightest_group_above(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "own": "0::/pod/box\n",
            "fs/memory.max": "max\n",
            "fs/pod/memory.max": "1000\n",
            "fs/pod/memory.current": "700\n",
            "fs/pod/memory.stat": "anon 300\ninactive_file 200\n",
            "fs/pod/box/memory.max": "900\n",
            "fs/pod/box/memory.current": "100\n",
            "fs/pod/box/cpu.max": "150000 100000\n",
            "fs/cpu.max": "max 100000\n",
        },
    )
    # pod: 1000 - (700 - 200) = 500; box: 900 - 100 = 800.
    assert available_memory_bytes(tmp_path / "fs", tmp_path / "own") == 500
    assert processor_quota(tmp_path / "fs", tmp_path / "own") == 1.5


def test_version_1_reads_its_controllers(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "own": "5:memory:/box\n4:cpu,cpuacct:/box\n",
            "fs/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "fs/memory/box/memory.limit_in_bytes": "800\n",
            "fs/memory/box/memory.usage_in_bytes": "500\n",
            "fs/memory/box/memory.stat": "total_inactive_file 100\n",
            "fs/cpu,cpuacct/box/cpu.cfs_quota_us": "200000\n",
            "fs/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "fs/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "fs/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert available_memory_bytes(tmp_path / "fs", tmp_path / "own") == 400
    assert processor_quota(tmp_path / "fs", tmp_path / "own") == 2.0


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert available_memory_bytes(tmp_path, tmp_path / "none") is None
    assert processor_quota(tmp_path, tmp_path / "none") is None


def test_nobody_else_asks_what_macos_lacks_or_counts_otherwise() -> None:
    root = Path(limits.__file__).parents[2]
    for room in ("flows", "schemas", "tasks"):
        for path in (root / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            is_here = path == Path(limits.__file__)
            assert is_here or not ("sched_getaffinity" in text or "ru_maxrss" in text), path
