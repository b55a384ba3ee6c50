from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli.screen import (
    Ending,
    Row,
    Screen,
    State,
    clock,
    compute_rows,
    read_previous_seconds,
    run_screen,
    seconds_left,
)
from schemas.records.stages import Stage
from tasks.engine.journal import StageEntry, append_duration, append_entry
from tasks.engine.progress import progress_bar


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))


START = datetime(2026, 1, 1, tzinfo=UTC)


def entry(stage: Stage, event: str, second: int, seconds: float | None = None) -> StageEntry:
    at = START + timedelta(seconds=second)
    return StageEntry(stage=stage, event=event, detail="no output yet", seconds=seconds, at=at)


ENTRIES = [
    entry(Stage.LOAD_DATASET, "HIT", 0),
    entry(Stage.PREPARE_TEMPLATE, "MISS", 1, 4.0),
    entry(Stage.CHECK_SCHEMA, "MISS", 5),
]


@pytest.mark.parametrize(
    ("ending", "running", "waiting"),
    [
        (Ending.OPEN, State.RUNNING, State.WAITING),
        (Ending.FAILED, State.FAILED, State.SKIPPED),
        (Ending.INTERRUPTED, State.STOPPED, State.SKIPPED),
        (Ending.DONE, State.DONE, State.SKIPPED),
    ],
)
def test_compute_rows_has_every_stage(ending: Ending, running: State, waiting: State) -> None:
    rows = compute_rows(ENTRIES, START + timedelta(seconds=7), ending)
    assert [row.stage for row in rows] == list(Stage)
    assert rows[0] == Row("load_dataset", State.HIT, "no output yet")
    assert rows[1] == Row("prepare_template", State.DONE, "no output yet", 4.0)
    assert rows[2] == Row("check_schema", running, "no output yet", 2.0)
    assert {row.state for row in rows[3:]} == {waiting}


def test_compute_rows_takes_a_stage_as_it_was_met_last() -> None:
    again = [*ENTRIES, entry(Stage.LOAD_DATASET, "MISS", 6, 1.5)]
    assert compute_rows(again, START, Ending.OPEN)[0].seconds == 1.5


def test_seconds_left_adds_what_lies_ahead() -> None:
    rows = [
        Row("a", State.DONE, "", 9.0),
        Row("b", State.RUNNING, "", 2.0),
        Row("c", State.RUNNING, "", 8.0),
        Row("d", State.WAITING),
    ]
    assert seconds_left(rows, {"b": 5.0, "c": 4.0, "d": 10.0}) == 13.0
    assert seconds_left(rows, {"b": 5.0, "c": 4.0}) is None


def test_previous_seconds_are_those_of_the_newest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    assert read_previous_seconds() == {}
    append_entry("run", StageEntry(stage="decide", event="MISS", detail=""))
    append_duration("run", "decide", 2.0)
    append_entry("run", StageEntry(stage="load_dataset", event="HIT", detail=""))
    assert read_previous_seconds() == {"decide": 2.0}


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (59.6, "1:00"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def drawn(width: int, entries: Sequence[StageEntry], ending: Ending = Ending.OPEN) -> str:
    console = Console(file=io.StringIO(), record=True, force_terminal=True, width=width, height=30)
    for one in entries:
        append_entry("run", one)
    console.print(Screen(console, {}, START, START + timedelta(seconds=65), ending))
    return console.export_text()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_screen_fits_the_terminal_and_cuts_no_stage(width: int) -> None:
    text = drawn(width, ENTRIES)
    lines = text.splitlines()
    assert len(lines) == len(Stage) + 1
    assert max(map(len, lines)) <= width
    assert all(stage in line for stage, line in zip(Stage, lines, strict=False))
    assert lines[-1].startswith("running, 1:05, time left not known")


def test_screen_says_how_the_run_ended() -> None:
    lines = drawn(80, ENTRIES, Ending.FAILED).splitlines()
    assert "check_schema      failed" in lines[2]
    assert lines[-1] == "failed, 1:05"


class Terminal(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


def watch(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str = "xterm") -> Terminal:
    """Called within the test: pytest sets the stream anew after the fixtures."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setenv("SFT_HOME", str(folder))
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return stream


@pytest.mark.parametrize("has_colour", [True, False])
def test_run_screen_shows_the_open_bar_and_leaves_its_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_colour: bool
) -> None:
    terminal = watch(monkeypatch, tmp_path)
    if not has_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    with run_screen() as screen:
        assert screen is not None
        append_entry("run", StageEntry(stage="train_model", event="MISS", detail="new settings"))
        with progress_bar(total=4, label="train", unit="step") as bar:
            bar.update(3)
            with screen.console.capture() as capture:
                screen.console.print(screen)
        assert "train: 75%" in capture.get()
        assert "━" in capture.get()
        assert "3 of 4 steps" in capture.get()
        append_duration("run", "train_model", 12.0)
    text = terminal.getvalue()
    assert "done, 0:0" in text
    assert "0:12" in text
    assert ("\x1b[32m" in text) is has_colour
    assert text.count("\x1b[?25h") == 1  # the cursor is back


def test_log_lines_appear_whole_above_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.logging.handlers import PrefectConsoleHandler

    terminal = watch(monkeypatch, tmp_path)
    logger = logging.getLogger("prefect.flow_runs")
    handler = PrefectConsoleHandler(stream=terminal)
    monkeypatch.setattr(logger, "handlers", [handler])
    with run_screen() as screen:
        assert screen is not None
        screen.adopt_logging()
        logger.error("kept [bold]as it is[/bold]")
    assert "kept [bold]as it is[/bold]\n" in terminal.getvalue()


@pytest.mark.parametrize(("error", "word"), [(ValueError, "failed"), (KeyboardInterrupt, "interr")])
def test_run_screen_passes_errors_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    word: str,
) -> None:
    terminal = watch(monkeypatch, tmp_path)
    with pytest.raises(error), run_screen():
        raise error
    assert word in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[?25h")


@pytest.mark.parametrize(("kind", "is_wanted"), [("dumb", True), ("xterm", False)])
def test_no_screen_where_it_cannot_be_drawn_or_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_wanted: bool
) -> None:
    terminal = watch(monkeypatch, tmp_path, kind)
    with run_screen(is_wanted=is_wanted) as screen:
        assert screen is None
    assert terminal.getvalue() == ""
