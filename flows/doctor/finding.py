"""The result of one check of `sft-flow doctor`."""

from __future__ import annotations

from enum import StrEnum

from schemas.base import Record


class Health(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    NOTE = "note"
    """Works, but worth knowing."""
    PROBLEM = "problem"


class Finding(Record):
    """Result of one check."""

    topic: str
    health: Health
    detail: str
    fix: str = ""
    """How to fix it."""
