from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.measure_flow import SETTINGS, stage_seconds, summarise
from schemas.config.file import load_config
from tasks.engine.journal import StageEntry, append_duration, append_entry, journal_path

PARTS = (("trivial", ""), ("overhead", "_server"))


def test_stage_seconds_adds_up_the_newest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    for number, run in enumerate(("older", "newer")):
        for stage, seconds in (("load_dataset", 0.5), ("train_model", 2.0 + number)):
            append_entry(run, StageEntry(stage=stage, event="MISS", detail=""))
            append_duration(run, stage, seconds)
        append_entry(run, StageEntry(stage="decide", event="HIT", detail=""))
        os.utime(journal_path(run), (number, number))
    assert stage_seconds(tmp_path) == 3.5


def test_settings_of_the_measurement_are_taken() -> None:
    config = load_config(None, SETTINGS)
    assert config.training.max_steps == 2


def test_ratios_compare_the_best_rounds_with_the_trivial_flow() -> None:
    names = [f"{part}_temporary{end}" for part, end in PARTS]
    names += [f"{part}_running{end}" for part, end in PARTS]
    rounds = [(10.0, 15.0, 4.0, 9.0), (12.0, 14.0, 3.0, 9.5)]
    found = summarise(
        [dict(zip((f"{name}_seconds" for name in names), each, strict=True)) for each in rounds]
    )
    assert found["overhead_temporary_server_seconds"] == 14.0
    assert (found["overhead_ratio_temporary"], found["overhead_ratio_running"]) == (1.4, 3.0)
