"""Sends values to a server from a thread of its own, so that a slow server never slows the work."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

RETRY_SECONDS = 60.0
CLOSE_SECONDS = 30.0
"""Time for the last values; after that the thread is left behind."""


class Pusher:
    """Calls a function now, every few seconds, and a last time when it is closed."""

    def __init__(
        self,
        push: Callable[[], None],
        *,
        name: str,
        every_seconds: float,
        warn: Callable[[str], object],
    ) -> None:
        """Prepare the thread; `start` lets it run.

        Args:
            push: Sends what is new; called by this thread only.
            name: What is pushed to which server, for the warning.
            every_seconds: Time between two calls.
            warn: Gets one sentence at the first failure, and none at later ones.
        """
        self._push = push
        self._name = name
        self._every_seconds = every_seconds
        self._warn = warn
        self._has_warned = False
        self._closing = threading.Event()
        context = contextvars.copy_context()  # Prefect keeps the current run there
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name=name, daemon=True
        )

    def start(self) -> None:
        """Let the thread run."""
        self._thread.start()

    def close(self, limit_seconds: float = CLOSE_SECONDS) -> None:
        """Push a last time, and wait for it no longer than the limit."""
        self._closing.set()
        self._thread.join(limit_seconds)
        if self._thread.is_alive():
            self._complain("the last values took too long")

    def _work(self) -> None:
        pause_seconds = 0.0
        while not self._closing.wait(pause_seconds):
            pause_seconds = self._every_seconds if self._attempt() else RETRY_SECONDS
        self._attempt()

    def _attempt(self) -> bool:
        try:
            self._push()
        except Exception as error:  # whatever a server's client raises, training goes on
            self._complain((str(error).strip().splitlines() or [type(error).__name__])[0])
            return False
        return True

    def _complain(self, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"no {self._name} for now, training goes on: {reason}")
