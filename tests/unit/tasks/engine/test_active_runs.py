from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.engine import active_runs
from tasks.engine.active_runs import active_run, earliest_start, markers_folder
from tasks.engine.files import modified_at

PROGRAM = """
from tasks.engine.active_runs import active_run
with active_run():
    print("active", flush=True)
    input()
"""


def test_without_a_run_there_is_no_start(work_folder: Path) -> None:
    assert earliest_start() == float("inf")


def test_a_run_counts_until_it_ends(work_folder: Path) -> None:
    with active_run():
        first = earliest_start()
        assert first <= time.time()
        with active_run():
            assert earliest_start() == first
        assert earliest_start() == first
    assert earliest_start() == float("inf")
    assert list(markers_folder().iterdir()) == []


def test_the_start_is_by_the_clock_of_the_file_system(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server an hour behind; the mark is written again by whoever looks whether it is locked."""
    monkeypatch.setattr(active_runs, "modified_at", lambda path: modified_at(path) - 3600)
    with active_run():
        first = earliest_start()
        assert time.time() - 3700 < first < time.time() - 3600
        assert earliest_start() == first


def test_a_run_that_fails_counts_no_longer(work_folder: Path) -> None:
    try:
        with active_run():
            raise RuntimeError("failed")
    except RuntimeError:
        pass
    assert earliest_start() == float("inf")


def test_the_run_of_another_process_counts_until_it_is_killed(work_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "active\n"
    assert earliest_start() <= time.time()
    process.kill()
    process.communicate()
    assert len(list(markers_folder().iterdir())) == 1
    assert earliest_start() == float("inf")
    assert list(markers_folder().iterdir()) == []
