"""SIGTERM as an error, so that what was begun is put back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM came: end as after Ctrl-C, through every `finally`."""


@contextmanager
def unwind_on_sigterm() -> Iterator[None]:
    """Raise at SIGTERM, whose default action would leave the server behind.

    While a flow runs Prefect 3.8 has a handler of its own; afterwards it puts this one back and
    sends the signal again. A handler that a caller has set, and other threads, are left alone.

    Yields:
        Nothing.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
