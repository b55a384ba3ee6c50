"""Progress bars with an estimate of the time left; plain lines when nobody watches a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


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
    is_terminal = sys.stderr.isatty()
    is_shown_at_once = is_terminal and total is not None  # a bare "0row" before an error misleads
    interval_seconds = 0.2 if is_terminal else 15.0
    return tqdm(
        iterable,
        total=total,
        initial=initial,
        desc=label,
        unit=unit,
        unit_scale=unit == "B",
        leave=False,
        dynamic_ncols=is_terminal,
        mininterval=interval_seconds,
        delay=0.0 if is_shown_at_once else interval_seconds,
    )
