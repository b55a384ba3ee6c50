"""What a terminal shows: of a run every stage, and for all commands the counted work."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from schemas.records.stages import Stage
from schemas.redaction import visible
from tasks.engine.home import work_directory
from tasks.engine.journal import StageEntry, entries_since, read_entries
from tasks.engine.progress import Progress, open_progress, shown_on_screen

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

N_PREVIOUS_RUNS = 10
"""Runs looked at for what a stage took before."""
REFRESHES_PER_SECOND = 4.0
BAR_COLUMNS = 20


class State(StrEnum):
    """State of a stage."""

    WAITING = "waiting"
    RUNNING = "running"
    HIT = "HIT"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    SKIPPED = "skipped"


STYLES = {
    State.WAITING: "dim",
    State.RUNNING: "bold cyan",
    State.HIT: "green",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.STOPPED: "yellow",
    State.SKIPPED: "dim",
}


class Ending(StrEnum):
    """How a run ended, if it did."""

    OPEN = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Row:
    """One stage on the screen."""

    stage: str
    state: State
    detail: str = ""
    seconds: float | None = None
    """Computed for so long; None for a stage that computes nothing."""


def compute_rows(entries: Sequence[StageEntry], now: datetime, ending: Ending) -> list[Row]:
    """Return one row for each stage, in order; `now` is the end of a run that has ended."""
    newest = {entry.stage: entry for entry in entries}
    last = entries[-1].stage if entries else ""
    return [
        _compute_row(stage, newest.get(stage), now, ending, is_last=stage == last)
        for stage in Stage
    ]


def _compute_row(
    stage: str, entry: StageEntry | None, now: datetime, ending: Ending, *, is_last: bool
) -> Row:
    if entry is None:
        return Row(stage, State.WAITING if ending is Ending.OPEN else State.SKIPPED)
    if entry.event == "HIT":
        return Row(stage, State.HIT, entry.detail)
    if entry.seconds is not None:
        return Row(stage, State.DONE, entry.detail, entry.seconds)
    elapsed_seconds = max(0.0, (now - entry.at).total_seconds())
    if ending is Ending.OPEN:
        return Row(stage, State.RUNNING, entry.detail, elapsed_seconds)
    if is_last and ending is Ending.FAILED:
        return Row(stage, State.FAILED, entry.detail, elapsed_seconds)
    # Another process may have computed it meanwhile: then nothing is noted here.
    state = State.STOPPED if ending is Ending.INTERRUPTED else State.DONE
    return Row(stage, state, entry.detail, elapsed_seconds)


def seconds_left(rows: Sequence[Row], previous_seconds: Mapping[str, float]) -> float | None:
    """Estimate the time left from what the same stages took before.

    Stages that will turn out to be cached take less, so this is rather too much. None as long as a
    stage is ahead that never ran here.
    """
    ahead = [row for row in rows if row.state in (State.WAITING, State.RUNNING)]
    if any(row.stage not in previous_seconds for row in ahead):
        return None
    return sum(max(0.0, previous_seconds[row.stage] - (row.seconds or 0.0)) for row in ahead)


def read_previous_seconds() -> dict[str, float]:
    """Return by stage the seconds of its last computation in this work directory."""
    journals = (work_directory() / "runs").glob("*.jsonl")
    newest = sorted(journals, key=lambda path: path.stat().st_mtime)[-N_PREVIOUS_RUNS:]
    entries = [entry for path in newest for entry in read_entries(path.stem)]
    return {entry.stage: entry.seconds for entry in entries if entry.seconds is not None}


def clock(seconds: float) -> str:
    """Format a duration as a clock does, e.g. 0:07 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Screen:
    """What the terminal shows; drawn from the run's journal and the open work each time."""

    console: Console
    previous_seconds: Mapping[str, float]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    ending: Ending = Ending.OPEN
    has_stages: bool = True

    def __rich__(self) -> RenderableType:
        """Draw the stages, the work of the one that runs, and the times."""
        from rich.console import Group
        from rich.text import Text

        work = open_progress() if self.ending is Ending.OPEN else None
        bar = [draw_work(work)] if work else []
        if not self.has_stages:
            return Group(*bar)
        now = self.ended or datetime.now(UTC)
        rows = compute_rows(entries_since(self.started), now, self.ending)
        summary = f"{self.ending.value}, {clock((now - self.started).total_seconds())}"
        if self.ending is Ending.OPEN:
            left = seconds_left(rows, self.previous_seconds)
            summary += f", {'time left not known yet' if left is None else f'{clock(left)} left'}"
        last = Text(summary, style="bold", no_wrap=True, overflow="ellipsis")
        return Group(draw_rows(rows), *bar, last)

    def adopt_logging(self) -> None:
        """Let log lines appear above the screen; to be called once Prefect has its handlers."""
        import logging

        from prefect.logging.handlers import PrefectConsoleHandler

        from flows.cli.failures import LOGGERS

        for name in LOGGERS:
            for handler in logging.getLogger(name or None).handlers:
                if isinstance(handler, PrefectConsoleHandler):
                    handler.console = self.console


def draw_rows(rows: Sequence[Row]) -> RenderableType:
    """Draw the stages, one line each; what is too long for the terminal is cut."""
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True, min_width=max(len(stage) for stage in Stage))
    table.add_column(no_wrap=True, min_width=max(len(state) for state in State))
    table.add_column(no_wrap=True, justify="right", min_width=len("00:00"))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    # All spinners turn together: the phase of a new one is the time since its start.
    spinner = Spinner("line")
    spinner.start_time = 0.0
    marks = {State.HIT: "=", State.DONE: "+", State.FAILED: "x", State.STOPPED: "!"}
    for row in rows:
        style = STYLES[row.state]
        is_running = row.state is State.RUNNING
        table.add_row(
            spinner.render(time.monotonic()) if is_running else Text(marks.get(row.state, " ")),
            Text(row.stage, style=style),
            Text(row.state.value, style=style),
            "" if row.seconds is None else clock(row.seconds),
            Text(visible(row.detail), style="dim"),
        )
    return table


def draw_work(work: Progress) -> RenderableType:
    """Draw counted work on one line: label, share, bar, and what is done."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1))
    row.add_column(no_wrap=True)
    label = f"{work.label}: {work.fraction:.0%}" if work.total else f"{work.label}:"
    cells: list[RenderableType] = [Text(visible(label), style="cyan")]
    if work.total:
        row.add_column(no_wrap=True, width=BAR_COLUMNS)
        cells.append(ProgressBar(work.total, work.n, width=BAR_COLUMNS))
    row.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    row.add_row(*cells, Text(visible(str(work)), style="cyan"))
    return row


@contextmanager
def run_screen(*, is_wanted: bool = True, has_stages: bool = True) -> Iterator[Screen | None]:
    """Show the screen on standard error while the block runs, and leave the last state of stages.

    Args:
        is_wanted: False shows none.
        has_stages: False shows counted work alone, for commands that are no run.

    Yields:
        The screen; None where standard error is no terminal that can draw one: then the log's lines
        show what happens.
    """
    if not (is_wanted and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    # Log lines contain brackets, which are no markup.
    console = Console(stderr=True, markup=False, highlight=False)
    if console.is_dumb_terminal:
        yield None
        return
    screen = Screen(console, read_previous_seconds(), has_stages=has_stages)
    live = Live(
        screen,
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=not has_stages,
    )
    with shown_on_screen(), live:
        try:
            yield screen
        except BaseException as error:
            is_interrupted = isinstance(error, KeyboardInterrupt)
            screen.ending = Ending.INTERRUPTED if is_interrupted else Ending.FAILED
            raise
        else:
            screen.ending = Ending.DONE
        finally:
            screen.ended = datetime.now(UTC)
