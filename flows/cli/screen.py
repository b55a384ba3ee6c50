"""The screen of `sft-flow run`: every stage, its cache, the time it took and the time left."""

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
from tasks.engine.home import work_directory
from tasks.engine.journal import StageEntry, entries_since, read_entries

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

N_FORMER_RUNS = 10
"""Runs looked at for what a stage took before."""
REFRESHES_PER_SECOND = 4.0


class State(StrEnum):
    """What became of a stage."""

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
    """Say what became of every stage.

    Args:
        entries: The run's journal.
        now: Time on the clock; when the run ended, for one that has.
        ending: How the run ended.

    Returns:
        One row for each stage, in the order they run.
    """
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


def seconds_left(rows: Sequence[Row], former_seconds: Mapping[str, float]) -> float | None:
    """Estimate the time left from what the same stages took before.

    Stages that will turn out to be cached take less, so this is rather too much.

    Args:
        rows: What became of each stage.
        former_seconds: Seconds by stage, of former runs.

    Returns:
        Seconds; None as long as a stage lies ahead that never ran here.
    """
    ahead = [row for row in rows if row.state in (State.WAITING, State.RUNNING)]
    if any(row.stage not in former_seconds for row in ahead):
        return None
    return sum(max(0.0, former_seconds[row.stage] - (row.seconds or 0.0)) for row in ahead)


def read_former_seconds() -> dict[str, float]:
    """Look up what each stage took the last time it was computed in this work directory.

    Returns:
        Seconds by stage.
    """
    journals = (work_directory() / "runs").glob("*.jsonl")
    newest = sorted(journals, key=lambda path: path.stat().st_mtime)[-N_FORMER_RUNS:]
    entries = [entry for path in newest for entry in read_entries(path.stem)]
    return {entry.stage: entry.seconds for entry in entries if entry.seconds is not None}


def clock(seconds: float) -> str:
    """Write a duration as a clock does.

    Args:
        seconds: How long.

    Returns:
        E.g. 0:07 or 1:02:03.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Screen:
    """What the terminal shows; drawn anew from the run's journal each time."""

    console: Console
    former_seconds: Mapping[str, float]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    ending: Ending = Ending.OPEN

    def __rich__(self) -> RenderableType:
        """Draw the stages, the bar of the one that runs, and the times."""
        from rich.console import Group
        from rich.text import Text

        now = self.ended or datetime.now(UTC)
        rows = compute_rows(entries_since(self.started), now, self.ending)
        parts: list[RenderableType] = [draw_rows(rows)]
        bar = _bar_text() if self.ending is Ending.OPEN else ""
        if bar:
            parts.append(Text(bar, no_wrap=True, overflow="ellipsis", style="cyan"))
        summary = f"{self.ending.value}, {clock((now - self.started).total_seconds())}"
        if self.ending is Ending.OPEN:
            left = seconds_left(rows, self.former_seconds)
            summary += f", {'time left not known yet' if left is None else f'{clock(left)} left'}"
        parts.append(Text(summary, style="bold", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

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
    """Lay the stages out, one line each; what is too long for the terminal is cut.

    Args:
        rows: What became of each stage.

    Returns:
        Something that rich prints.
    """
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True, min_width=max(len(stage) for stage in Stage))
    table.add_column(no_wrap=True, min_width=max(len(state) for state in State))
    table.add_column(no_wrap=True, justify="right", min_width=len("00:00"))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    # All spinners turn together: each is made anew, and its phase is the time since its start.
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
            Text(row.detail, style="dim"),
        )
    return table


def _bar_text() -> str:
    from tasks.engine.progress import open_bar_text

    return open_bar_text()


@contextmanager
def run_screen(*, is_wanted: bool = True) -> Iterator[Screen | None]:
    """Show the screen on standard error while the block runs, and leave its last state there.

    Args:
        is_wanted: False shows none.

    Yields:
        The screen; None where nobody watches a terminal that can draw one: then the log's lines
        tell what happens.
    """
    from rich.console import Console

    # Log lines hold brackets, which are no markup.
    console = Console(stderr=True, markup=False, highlight=False)
    if not (is_wanted and sys.stderr.isatty() and not console.is_dumb_terminal):
        yield None
        return
    from rich.live import Live

    from tasks.engine.progress import bars_without_output

    screen = Screen(console, read_former_seconds())
    live = Live(screen, console=console, refresh_per_second=REFRESHES_PER_SECOND)
    with bars_without_output(), live:
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
