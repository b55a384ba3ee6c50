"""The benchmarks' measuring of processes, on real ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks._process import measure
from benchmarks.trivial_flow import do_nothing_often

pytestmark = pytest.mark.integration


def test_process_is_measured_with_its_children(tmp_path: Path) -> None:
    inner = "import time; held = bytearray(60_000_000); held[::4096] = held[::4096]; time.sleep(1)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    found = measure([sys.executable, "-c", outer], os.environ, tmp_path / "log", 0.05)
    assert 1 <= found.seconds < 30
    assert found.peak_memory_bytes > 60_000_000
    assert found.largest_process_bytes > 60_000_000


def test_process_that_fails_is_told_of(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(SystemExit, match="no such thing"):
        measure(command, os.environ, tmp_path / "log", 0.05)


def test_trivial_flow_runs_as_many_tasks_as_it_is_told(prefect_server: None) -> None:
    assert do_nothing_often(3) == 3
