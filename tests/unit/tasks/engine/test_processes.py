from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.engine.processes import find_process, identify
from tasks.training.process.events import PARENT_VARIABLE, StopFlag


def step_clock(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Move the start of the machine, which psutil adds to the start of a process, as a step does."""
    from psutil import _pslinux  # type: ignore[attr-defined]

    real = _pslinux.boot_time()
    patch.setattr(_pslinux, "boot_time", lambda: real + seconds)


@pytest.mark.skipif(sys.platform != "linux", reason="the clock is stepped where Linux keeps it")
def test_identity_survives_a_step_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.getpid()
    before, identity = psutil.Process(pid).create_time(), identify(pid)
    monkeypatch.setenv(PARENT_VARIABLE, identity)
    stop = StopFlag(tmp_path)
    step_clock(monkeypatch, 7200)
    assert psutil.Process(pid).create_time() == pytest.approx(before + 7200)
    assert identify(pid) == identity
    assert find_process(identity) is not None
    assert not stop.is_set


def test_another_process_with_the_same_id_is_not_found() -> None:
    pid, _, start = identify(os.getpid()).partition(":")
    assert find_process(f"{pid}:{float(start) - 1}") is None
    assert find_process(pid) is None


def test_training_stops_when_its_parent_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setenv(PARENT_VARIABLE, identify(process.pid))
    stop = StopFlag(tmp_path)
    assert not stop.is_set
    process.kill()
    process.communicate()
    assert stop.is_set
    assert identify(process.pid) == str(process.pid)
