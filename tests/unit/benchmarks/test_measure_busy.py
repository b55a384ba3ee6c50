"""What the benchmark next to a busy process computes, with numbers made up by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from benchmarks.measure_busy import Watch, competitor, parse_arguments, summarise, table
from tasks.training.process.spec import EventKind, TrainingEvent


def run(speed: float, competitor_seconds: float = 0.0) -> dict[str, float]:
    return {
        "tokens_per_second": speed,
        "seconds": 10.0,
        "competitor_seconds": competitor_seconds,
    }


@pytest.mark.parametrize(("busy", "is_met"), [(61.0, True), (59.0, False)])
def test_summarise_compares_the_speed_kept_with_the_share_left(busy: float, is_met: bool) -> None:
    # The competitor got 4 of 20 processor seconds: 0.75 x 0.8 = 0.6 of the speed is to be kept.
    found = summarise([run(90), run(100)], [run(busy, 4.0), run(10, 9.0)], 2)
    assert (found["quiet"], found["busy"], found["share_left"]) == (100, busy, 0.8)
    assert found["kept"] == busy / 100
    assert found["of_share_left"] == pytest.approx(busy / 80)
    assert found["is_met"] is is_met


def test_watch_reads_from_the_first_step_to_the_last() -> None:
    user = iter([3.0, 4.0, 7.5])
    process: Any = SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=next(user)))
    watch = Watch(process)
    for kind in (EventKind.STARTED, EventKind.STEP, EventKind.STEP, EventKind.STEP, EventKind.NOTE):
        watch(TrainingEvent(kind=kind))
    seconds, competitor_seconds = watch.seconds
    assert competitor_seconds == 4.5
    assert seconds > 0
    alone = Watch(None)
    alone(TrainingEvent(kind=EventKind.STEP))
    assert alone.seconds == (0.0, 0.0)


def test_competitor_computes_until_the_block_ends() -> None:
    with competitor() as process:
        assert process.is_running()
        assert len(process.cpu_affinity()) == 1
    assert not psutil.pid_exists(process.pid)


def test_competitor_ends_with_an_error_too() -> None:
    found: list[psutil.Process] = []

    def fail() -> None:
        with competitor() as process:
            found.append(process)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not found[0].is_running()


def test_table_marks_what_misses_its_target() -> None:
    good = summarise([run(100)], [run(90, 4.0)], 2)
    poor = summarise([run(100)], [run(10, 4.0)], 2)
    text = table(good | {"evaluation": poor})
    assert [line.split(": ")[-1] for line in text.splitlines()[1:3]] == ["met", "MISSED"]
    assert (parse_arguments([]).steps, parse_arguments(["--repeats", "3"]).repeats) == (8, 3)
