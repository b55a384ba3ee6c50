from __future__ import annotations

from pathlib import Path

from tasks._cgroup import available_memory_bytes, processor_quota


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
