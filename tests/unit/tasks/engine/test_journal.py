from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.engine.journal import (
    StageEntry,
    append_duration,
    append_entry,
    entries_since,
    journal_path,
    last_flow_run_id,
    read_entries,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))


def test_journal_gives_each_stage_the_seconds_it_took() -> None:
    append_entry("run", StageEntry(stage="decide", event="MISS", detail="first run"))
    append_duration("run", "decide", 1.5)
    append_entry("run", StageEntry(stage="load_dataset", event="HIT", detail="verified 2 files"))
    append_entry("run", StageEntry(stage="train_model", event="MISS", detail="first run"))
    found = [(entry.stage, entry.event, entry.seconds) for entry in read_entries("run")]
    assert found == [
        ("decide", "MISS", 1.5),
        ("load_dataset", "HIT", None),
        ("train_model", "MISS", None),
    ]


def test_journal_gives_the_seconds_to_the_last_time_a_stage_was_looked_up() -> None:
    for seconds in (1.0, 2.0):
        append_entry("run", StageEntry(stage="decide", event="MISS", detail="x"))
        append_duration("run", "decide", seconds)
    assert [entry.seconds for entry in read_entries("run")] == [1.0, 2.0]


def test_journal_of_no_run_is_empty() -> None:
    assert read_entries("none") == []
    assert last_flow_run_id() is None


def test_entries_of_another_process_and_of_an_earlier_run_are_not_ours() -> None:
    append_entry("earlier", StageEntry(stage="decide", event="HIT", detail=""))
    started = datetime.now(UTC)
    append_entry("other", StageEntry(stage="train_model", event="MISS", detail="", process=1))
    assert entries_since(started) == []
    append_entry("ours", StageEntry(stage="load_dataset", event="HIT", detail=""))
    append_entry("other", StageEntry(stage="evaluate_model", event="MISS", detail="", process=1))
    assert [entry.stage for entry in entries_since(started)] == ["load_dataset"]


def test_a_torn_line_costs_no_other() -> None:
    append_entry("run", StageEntry(stage="decide", event="HIT", detail=""))
    with journal_path("run").open("a", encoding="utf-8") as stream:
        stream.write('{"stage":"train_mod')
    append_entry("run", StageEntry(stage="publish_report", event="HIT", detail=""))
    assert [entry.stage for entry in read_entries("run")] == ["decide", "publish_report"]
