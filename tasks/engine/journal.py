"""What each stage of each flow run did, for `sft-flow status` and the report."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from schemas.base import Record
from tasks.engine.home import work_directory
from tasks.engine.jsonl import append_record, read_records

DONE = "DONE"
"""Event of the line that adds the seconds."""


class StageEntry(Record):
    """One line of the journal."""

    stage: str
    event: str
    """HIT or MISS."""
    detail: str
    seconds: float | None = None
    """What computing it took; None for a hit, and until it is done."""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    process: int = Field(default_factory=os.getpid)
    """Id of the process that ran the flow: several may run in one work directory."""


def journal_path(flow_run_id: str) -> Path:
    """Return the path of a flow run's journal, a JSONL file in the work directory."""
    return work_directory() / "runs" / f"{flow_run_id}.jsonl"


def append_entry(flow_run_id: str, entry: StageEntry) -> None:
    """Add one line to a run's journal."""
    append_record(journal_path(flow_run_id), entry)


def append_duration(flow_run_id: str, stage: str, seconds: float) -> None:
    """Note that a stage is done, and the seconds it took to compute."""
    append_entry(flow_run_id, StageEntry(stage=stage, event=DONE, detail="", seconds=seconds))


def read_entries(flow_run_id: str) -> list[StageEntry]:
    """Return one entry for each time a stage was looked up, in order; empty without a journal.

    An entry has the seconds the stage took once it is done.
    """
    entries: list[StageEntry] = []
    for entry in read_records(journal_path(flow_run_id), StageEntry):
        if entry.event != DONE:
            entries.append(entry)
            continue
        for place in reversed(range(len(entries))):
            if entries[place].stage == entry.stage:
                entries[place] = entries[place].model_copy(update={"seconds": entry.seconds})
                break
    return entries


def last_flow_run_id() -> str | None:
    """Return the Prefect id of the run that wrote last; None when nothing ran here."""
    paths = list((work_directory() / "runs").glob("*.jsonl"))
    return max(paths, key=lambda path: path.stat().st_mtime).stem if paths else None


def entries_since(started: datetime) -> list[StageEntry]:
    """Return this process's entries of the flow run that began at `started` or later.

    As `read_entries`; empty until the first stage is looked up.
    """
    paths = (work_directory() / "runs").glob("*.jsonl")
    changed = [(path.stat().st_mtime, path.stem) for path in paths]
    # File systems keep times less exactly than clocks do.
    recent = [one for one in changed if one[0] > started.timestamp() - 1]
    for _, flow_run_id in sorted(recent, reverse=True):
        entries = read_entries(flow_run_id)
        if entries and entries[0].process == os.getpid():
            return [entry for entry in entries if entry.at >= started]
    return []
