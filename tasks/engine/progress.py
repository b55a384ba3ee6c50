"""Work that is counted: what is done, of how much, and how long the rest takes at this pace.

The newest open work is on the terminal's screen and in Prefect's bar of the run. Without a screen
it is a line every half minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from schemas.redaction import visible
from tasks.engine.wording import span

LINE_SECONDS = 30.0
"""Least time between two lines where there is no screen."""
MEGABYTE = 1_000_000

OPEN: list[Progress] = []
"""Work that is not finished, newest last."""
HAS_SCREEN = False
"""A screen shows the work, so that no lines are written."""


def write_line(text: str) -> None:
    """Write a line on standard error."""
    sys.stderr.write(f"{visible(text)}\n")


@dataclass(eq=False)
class Progress:
    """One piece of work: iterate over it, or call `update` in a `with` block."""

    label: str
    unit: str
    total: int | None
    n: int = 0
    iterable: Iterable[Any] | None = None
    write: Callable[[str], object] = write_line
    next_line_seconds: float | None = None
    """On the clock; None: a first line when `LINE_SECONDS` have passed."""
    clock: Callable[[], float] = time.monotonic
    detail: str = ""
    """What else there is to show, e.g. the loss."""
    _first: tuple[float, int] | None = field(default=None, init=False)
    _latest_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Open the work; one that is iterated over is opened when the first unit is asked for."""
        if self.next_line_seconds is None:
            self.next_line_seconds = self.clock() + LINE_SECONDS
        if self.iterable is None:
            OPEN.append(self)

    def __iter__(self) -> Iterator[Any]:
        """Count what is taken."""
        OPEN.append(self)
        with self:
            for item in self.iterable or ():
                yield item
                self.update(1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish; a second call does nothing."""
        if self in OPEN:
            OPEN.remove(self)

    def update(self, n: int) -> None:
        """Count `n` more units, and write a line when it is time for one."""
        self.n += n
        self._latest_seconds = now = self.clock()
        self._first = self._first or (now, self.n)
        if not HAS_SCREEN and now >= (self.next_line_seconds or 0.0):
            self.next_line_seconds = now + LINE_SECONDS
            self.write(f"{self.label}: {self}")

    @property
    def fraction(self) -> float:
        """Share that is done, 0 to 1; 0 where the total is not known."""
        return min(1.0, self.n / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time for the rest at the pace since the first update, which may have warmed up."""
        if self._first is None or self.total is None or self.n <= self._first[1]:
            return None
        seconds, n = self._first
        return (self._latest_seconds - seconds) / (self.n - n) * (self.total - self.n)

    def __str__(self) -> str:
        """Show count, detail and time left, e.g. "3 of 9 steps, loss 1.234, 6 s left"."""
        if self.unit == "B":
            counts = [f"{n / MEGABYTE:,.1f}" for n in (self.n, self.total) if n is not None]
        else:
            counts = [f"{n:,}" for n in (self.n, self.total) if n is not None]
        parts = [f"{' of '.join(counts)} {'MB' if self.unit == 'B' else f'{self.unit}s'}"]
        if self.detail:
            parts.append(self.detail)
        if self.total and self.n < self.total and self.seconds_left is not None:
            parts.append(f"{span(self.seconds_left)} left")
        return ", ".join(parts)


def progress_bar(
    iterable: Iterable[Any] | None = None, *, total: int | None, label: str, unit: str
) -> Any:
    """Show work that is counted.

    Args:
        iterable: What to go through; None for work that is counted by `update`.
        total: How many units there are, if known.
        label: What is going on, e.g. "load".
        unit: What is counted, e.g. "row"; "B" for bytes.

    Returns:
        A `Progress`.
    """
    return Progress(label, unit, total, iterable=iterable)


def open_progress() -> Progress | None:
    """Return the newest open work that has something to show."""
    work = next(reversed(OPEN), None)
    # "0 rows" before an error would mislead.
    return work if work and (work.total is not None or work.n) else None


@contextmanager
def shown_on_screen() -> Iterator[None]:
    """Write no lines while the block runs, because a screen shows the work."""
    global HAS_SCREEN
    HAS_SCREEN = True
    try:
        yield
    finally:
        HAS_SCREEN = False
