"""What one examination of `sft-flow doctor` found."""

from __future__ import annotations

from enum import StrEnum

from schemas.base import Record


class Health(StrEnum):
    """Outcome of one examination."""

    OK = "ok"
    NOTE = "note"
    """Works, but worth knowing."""
    PROBLEM = "problem"


class Finding(Record):
    """What one examination found."""

    topic: str
    health: Health
    detail: str
    mend: str = ""
