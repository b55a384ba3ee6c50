"""Journal of the data rejected under each registered name, for the history and to reject them once only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import ConfigDict, Field

from schemas.base import Record
from tasks.engine.home import work_directory
from tasks.engine.jsonl import append_record, read_records


class Rejection(Record):
    """One line of the journal: a dataset that was rejected."""

    model_config = ConfigDict(extra="ignore")  # fields of earlier versions

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    rows_sha256: str
    """Of `load_dataset`'s output."""
    stage_key: str = ""
    """Of the stage that rejected them: all that it read. Empty in journals of earlier versions."""
    n_rows: int
    reason: str
    """Broken rules, with counts and places."""
    evidence: str
    """Folder with the quarantined rows."""


def rejections_path(name: str) -> Path:
    """Return the JSONL file of one registered name in the work directory."""
    return work_directory() / "history" / f"{name}.rejections.jsonl"


def note_rejection(name: str, rejection: Rejection) -> None:
    """Append one line to the journal."""
    append_record(rejections_path(name), rejection)


def read_rejections(name: str) -> list[Rejection]:
    """Read the journal, oldest first; empty if nothing was rejected in this work directory."""
    return read_records(rejections_path(name), Rejection)


def still_rejected(rejection: Rejection) -> str:
    """Explain why rows that were rejected before are skipped."""
    when = rejection.at.isoformat(sep=" ", timespec="minutes")
    return f"these rows were rejected at {when}: {rejection.reason.splitlines()[0]}"
