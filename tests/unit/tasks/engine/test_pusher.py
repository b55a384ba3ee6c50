from __future__ import annotations

import threading

from tasks.engine.pusher import Pusher


def test_pusher_pushes_at_once_and_when_it_is_closed() -> None:
    first = threading.Event()
    calls: list[str] = []

    def push() -> None:
        calls.append("push")
        first.set()

    pusher = Pusher(push, name="figures", every_seconds=1000, warn=calls.append)
    pusher.start()
    assert first.wait(60)
    pusher.close()
    assert calls == ["push", "push"]


def test_pusher_warns_once_and_tries_again() -> None:
    warnings: list[str] = []
    calls: list[int] = []
    tried = threading.Event()

    def push() -> None:
        calls.append(1)
        tried.set()
        raise OSError("no route\nto host")

    pusher = Pusher(push, name="figures", every_seconds=0, warn=warnings.append)
    pusher.start()
    assert tried.wait(60)
    pusher.close()
    assert warnings == ["no figures for now, training goes on: no route"]
    assert len(calls) == 2


def test_pusher_leaves_a_server_that_hangs_behind() -> None:
    warnings: list[str] = []
    release = threading.Event()

    def push() -> None:
        release.wait()

    pusher = Pusher(push, name="figures", every_seconds=0, warn=warnings.append)
    pusher.start()
    pusher.close(limit_seconds=0.01)
    assert warnings == ["no figures for now, training goes on: the last values took too long"]
    release.set()
