"""Journal of the data rejected under each registered name, for the history and to reject them once only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from schemas.base import Record
from schemas.config.run import RunConfig
from schemas.records.references import DatasetReference
from tasks.engine.home import work_directory
from tasks.registry.lineage import settings_sha256


class Rejection(Record):
    """One line of the journal: a dataset that was rejected."""

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    rows_sha256: str
    """Of `load_dataset`'s output."""
    settings_sha256: str
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
    path = rejections_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(rejection.model_dump_json() + "\n")


def read_rejections(name: str) -> list[Rejection]:
    """Read the journal, oldest first; empty if nothing was rejected in this work directory."""
    path = rejections_path(name)
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Rejection.model_validate_json(line) for line in lines]


def find_rejection(config: RunConfig, dataset: DatasetReference) -> Rejection | None:
    """Return the last rejection if it was of these rows under these settings."""
    last = next(iter(reversed(read_rejections(config.registry.name))), None)
    if last is None or last.rows_sha256 != dataset.sha256:
        return None
    return last if last.settings_sha256 == settings_sha256(config) else None


def still_rejected(rejection: Rejection) -> str:
    """Explain why rows that were rejected before are skipped."""
    when = rejection.at.isoformat(sep=" ", timespec="minutes")
    return f"these rows were rejected at {when}: {rejection.reason.splitlines()[0]}"
