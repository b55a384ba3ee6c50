from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from tasks.engine.progress import progress_bar


def test_progress_bar_passes_everything_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar([1, 2, 3], total=3, label="count", unit="row")) == [1, 2, 3]
    assert capsys.readouterr().err == ""  # nobody watches, and it was over at once


def test_progress_bar_moved_by_hand_counts() -> None:
    with progress_bar(total=4, label="train", unit="step") as bar:
        bar.update(3)
        assert (bar.n, bar.total) == (3, 4)


class Terminal(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


def watch(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called within the test: pytest sets the stream anew after the fixtures."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_known_total_is_shown_at_once_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)
    with progress_bar(total=4, label="train", unit="step"):
        assert "train:   0%" in terminal.getvalue()


def test_no_empty_bar_is_shown_before_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)

    def rows() -> Iterator[int]:
        raise ValueError("no such data")
        yield 1

    with pytest.raises(ValueError, match="no such data"):
        list(progress_bar(rows(), total=None, label="load", unit="row"))
    assert terminal.getvalue() == ""


def test_moving_the_text_behind_the_bar_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(total=3, label="train", unit="step") as bar:
        for step in range(3):
            bar.update(1)
            bar.set_postfix(loss=f"{step}", refresh=False)
    assert capsys.readouterr().err == ""


def test_bytes_are_shown_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)
    with progress_bar(total=2_000_000, label="download", unit="B"):
        assert "2.00M" in terminal.getvalue()
