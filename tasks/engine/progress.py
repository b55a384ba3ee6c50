"""Progress bars with an estimate of the time left; plain lines when nobody watches a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Nowhere(io.TextIOBase):
    """Takes what bars write while a screen shows them."""

    def write(self, text: str) -> int:
        """Forget a text.

        Args:
            text: What a bar writes.

        Returns:
            Its length.
        """
        return len(text)


SILENT_BARS: list[Any] | None = None
"""Bars that write nothing, oldest first; None while bars write to standard error."""


@contextmanager
def bars_without_output() -> Iterator[None]:
    """Keep bars from standard error while the block runs; a screen shows them instead.

    Yields:
        Nothing.
    """
    global SILENT_BARS
    SILENT_BARS = []
    try:
        yield
    finally:
        SILENT_BARS = None


def open_bar_text() -> str:
    """Describe the newest bar that is still open.

    Returns:
        Its line; empty when there is none.
    """
    bars = [bar for bar in SILENT_BARS or () if not bar.disable]
    return str(bars[-1]).strip() if bars else ""


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None,
    label: str,
    unit: str,
    initial: int = 0,
) -> Any:
    """Make a progress bar on standard error.

    Args:
        iterable: What to go through; None for a bar that is moved by hand.
        total: How many units there are, if known.
        label: What is going on, e.g. "train".
        unit: What is counted, e.g. "step".
        initial: Units done before, which took none of the time measured.

    Returns:
        A `tqdm` bar: iterate over it, or call `update` and `close`.
    """
    is_silent = SILENT_BARS is not None
    is_terminal = sys.stderr.isatty()
    is_shown_at_once = is_terminal and total is not None  # a bare "0row" before an error misleads
    interval_seconds = 0.2 if is_terminal or is_silent else 15.0
    bar = tqdm(
        iterable,
        total=total,
        initial=initial,
        desc=label,
        unit=unit,
        unit_scale=unit == "B",
        leave=False,
        file=Nowhere() if is_silent else None,
        dynamic_ncols=is_terminal and not is_silent,
        mininterval=interval_seconds,
        delay=0.0 if is_shown_at_once or is_silent else interval_seconds,
    )
    if SILENT_BARS is not None:
        SILENT_BARS[:] = [open_bar for open_bar in SILENT_BARS if not open_bar.disable] + [bar]
    return bar
