from __future__ import annotations

import pytest

from tasks._progress import progress_bar


def test_progress_bar_passes_everything_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar([1, 2, 3], total=3, label="count", unit="row")) == [1, 2, 3]
    assert capsys.readouterr().err == ""  # nobody watches, and it was over at once


def test_progress_bar_moved_by_hand_counts() -> None:
    with progress_bar(total=4, label="train", unit="step") as bar:
        bar.update(3)
        assert (bar.n, bar.total) == (3, 4)
