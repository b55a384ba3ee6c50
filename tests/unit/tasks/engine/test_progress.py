from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tasks.engine.progress import OPEN, Progress, open_progress, progress_bar, shown_on_screen


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    assert OPEN == []


def clock_of(*seconds: float) -> Callable[[], float]:
    return iter(seconds).__next__


def test_progress_passes_everything_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar([1, 2, 3], total=3, label="count", unit="row")) == [1, 2, 3]
    assert capsys.readouterr().err == ""  # it was over at once


def test_progress_moved_by_hand_counts() -> None:
    with progress_bar(total=4, label="train", unit="step") as work:
        work.update(3)
        assert (work.n, work.total, work.fraction) == (3, 4, 0.75)


def test_pace_leaves_out_the_first_update() -> None:
    with Progress("train", "step", 10, 4, clock=clock_of(0.0, 100.0, 104.0)) as work:
        work.update(1)
        work.detail = "loss 1.500"
        work.update(2)
    assert work.seconds_left == 6.0  # two steps took 4 s, three are left
    assert work.fraction == 0.7
    assert str(work) == "7 of 10 steps, loss 1.500, 6 s left"


def test_time_left_is_not_known_before_the_second_update() -> None:
    with Progress("train", "step", 10, 4, clock=clock_of(0.0, 100.0)) as work:
        assert (work.fraction, work.seconds_left) == (0.4, None)
        work.update(1)
        assert work.seconds_left is None
        assert str(work) == "5 of 10 steps"


@pytest.mark.parametrize(("n", "text"), [(4, "4 of 4 steps"), (6, "6 of 4 steps")])
def test_nothing_is_left_at_the_end(n: int, text: str) -> None:
    with Progress("train", "step", 4, clock=clock_of(0.0, 1.0, 2.0)) as work:
        work.update(1)
        work.update(n - 1)
    assert (str(work), work.fraction) == (text, 1.0)


def test_without_a_screen_there_is_a_line_every_so_often(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = clock_of(0.0, 29.0, 30.0, 59.0, 60.0)
    with Progress("check", "row", None, clock=times) as work:
        for _ in range(4):
            work.update(1000)
    assert capsys.readouterr().err == "check: 2,000 rows\ncheck: 4,000 rows\n"


def test_with_a_screen_there_are_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_on_screen(), Progress("train", "step", 2, next_line_seconds=0.0) as work:
        work.update(1)
    assert capsys.readouterr().err == ""


def test_known_total_is_shown_at_once() -> None:
    with progress_bar(total=4, label="train", unit="step"):
        work = open_progress()
        assert work is not None
        assert str(work) == "0 of 4 steps"
    assert open_progress() is None


def test_newest_open_work_is_shown() -> None:
    with progress_bar(total=1, label="outer", unit="row") as outer:
        with progress_bar(total=1, label="inner", unit="row") as inner:
            assert open_progress() is inner
        assert open_progress() is outer


def test_no_empty_count_is_shown_before_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []

    def rows() -> Iterator[int]:
        shown.append(open_progress())
        raise ValueError("no such data")
        yield 1

    with pytest.raises(ValueError, match="no such data"):
        list(progress_bar(rows(), total=None, label="load", unit="row"))
    assert shown == [None]
    assert capsys.readouterr().err == ""


def test_work_that_is_never_begun_or_left_half_way_is_not_open() -> None:
    rows = progress_bar([1, 2], total=2, label="load", unit="row")
    assert open_progress() is None
    begun = iter(rows)
    assert next(begun) == 1
    assert open_progress() is rows
    begun.close()
    assert open_progress() is None


def test_bytes_are_shown_scaled() -> None:
    with progress_bar(total=2_000_000, label="download", unit="B") as work:
        work.update(1_500_000)
    assert str(work) == "1.5 of 2.0 MB"
