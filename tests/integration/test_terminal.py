"""The screen of `sft-flow run` in a real pseudo-terminal, on a run that finds everything cached."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from flows.cli.console import EXIT_INTERRUPTED
from flows.cli.screen import clock
from schemas.records.stages import Stage
from tasks.engine.journal import StageEntry, append_duration, append_entry, journal_path
from tests.integration.conftest import ToyRun

pytestmark = pytest.mark.integration

LONGEST_SECONDS = 120.0
STAGE_SECONDS = 5
COLOUR = re.compile(r"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9[0-7]|10[0-7])(;\d+)*m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDDEN_CURSOR, SHOWN_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A terminal of 120 columns that a command has for standard input and standard error."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        """Start the command."""
        self._side, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.text = ""

    def read(self, words: str | None = None) -> None:
        """Read until the words appear, or until the command has closed the terminal."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while words is None or words not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._side], [], [], 0.2)[0]:
                try:
                    new = os.read(self._side, 1 << 16)
                except OSError:  # Linux: the other side was closed
                    new = b""
                if not new:
                    break
                self.text += new.decode("utf-8", "replace")
        assert words is None or words in self.text

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._side, key)

    def close(self) -> int:
        """Read to the end and return the exit code."""
        self.read()
        os.close(self._side)
        return self.process.wait(LONGEST_SECONDS)


@pytest.fixture
def command(toy_run: ToyRun, tmp_path: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The command with its environment; each stage took five seconds the last time."""
    config = tmp_path / "toy.yaml"
    config.write_text(toy_run.config.model_dump_json())  # JSON is YAML
    former = "as-long-as-before"
    for stage in Stage:
        append_entry(former, StageEntry(stage=stage, event="MISS", detail="first run"))
        append_duration(former, stage, STAGE_SECONDS)
    environment = os.environ | {
        "PREFECT_API_URL": str(get_current_settings().api.url),
        "TERM": "xterm-256color",
    }
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    program = str(Path(sys.executable).with_name("sft-flow"))
    yield [program, "run", "-c", str(config), "--json"], environment
    journal_path(former).unlink()


def test_terminal_shows_stages_cache_and_time_left(
    command: tuple[list[str], dict[str, str]],
) -> None:
    terminal = Terminal(*command)
    assert terminal.close() == 0
    assert terminal.process.stdout
    with terminal.process.stdout as result:
        assert json.load(result)["decision"] == "promote"
    assert COLOUR.search(terminal.text)
    text = CONTROL.sub("", terminal.text)
    assert f"{clock(STAGE_SECONDS * len(Stage))} left" in text
    last = text[text.rindex(Stage.LOAD_DATASET) :].splitlines()[: len(Stage) + 1]
    for stage, line in zip(Stage, last, strict=False):
        assert re.search(rf"{stage} +HIT +verified \d+ files", line), line
    assert re.match(r"done, \d+:\d\d", last[-1])
    assert terminal.text.rindex(SHOWN_CURSOR) > terminal.text.rindex(HIDDEN_CURSOR)


def test_interrupt_leaves_a_whole_terminal_without_colours(
    command: tuple[list[str], dict[str, str]],
) -> None:
    arguments, environment = command
    terminal = Terminal(arguments, environment | {"NO_COLOR": "1"})
    terminal.read("HIT")
    terminal.press(b"\x03")
    assert terminal.close() == EXIT_INTERRUPTED == 130
    assert terminal.process.stdout
    with terminal.process.stdout as result:
        assert result.read() == b""
    assert not COLOUR.search(terminal.text)
    text = CONTROL.sub("", terminal.text)
    assert "interrupted, 0:" in text
    assert "Traceback" not in text
    assert terminal.text.rindex(SHOWN_CURSOR) > terminal.text.rindex(HIDDEN_CURSOR)


def test_without_a_terminal_there_are_plain_lines(
    command: tuple[list[str], dict[str, str]],
) -> None:
    arguments, environment = command
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
    for stage in Stage:
        assert re.search(rf"HIT +{stage}: verified", done.stderr)
