from __future__ import annotations

import os

import pytest

from tasks.engine.launchers import leave_launcher


def test_variables_of_another_launcher_are_removed_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_FSDP", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = leave_launcher()
    assert found == ("ACCELERATE_USE_FSDP", "LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "WORLD_SIZE")
    assert not os.environ.keys() & set(found)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert leave_launcher() == ()
