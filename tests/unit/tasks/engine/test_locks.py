from __future__ import annotations

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.engine.locks import take_turns


def test_first_is_told_nothing_and_the_lock_is_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    told: list[str] = []
    with pytest.raises(ValueError, match="inside"), take_turns(path, told.append, "waiting"):
        raise ValueError("inside")
    assert told == []
    with FileLock(path, timeout=0):
        pass


def test_second_says_what_it_waits_for_and_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    is_told, order = threading.Event(), []

    def second() -> None:
        with take_turns(path, lambda _: is_told.set(), "waiting"):
            order.append("second")

    with take_turns(path, order.append, "waiting"):
        other = threading.Thread(target=second)
        other.start()
        assert is_told.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
