"""The decision report: every gate result and the decision they lead to."""

from __future__ import annotations

from enum import StrEnum

from schemas.base import Record
from schemas.config.gates import Against, DecisionMode
from schemas.rule_ids import Severity, Verdict


class GateResult(Record):
    """Result of one gate."""

    id: str
    metric: str
    against: Against
    opponent: float | None = None
    """Value of the base or the champion; None for an absolute gate."""
    challenger: float | None = None
    gain: float | None = None
    """Improvement in the unit of the metric; positive is better, also where lower values are."""
    interval_low: float | None = None
    interval_high: float | None = None
    """Ends of the paired bootstrap interval of the gain; for an absolute gate, of the value."""
    n_rows: int = 0
    """Rows for which both models have a value."""
    limit: float
    """absolute: worst value allowed; else the lower end of the interval must exceed it."""
    severity: Severity = Severity.BLOCK
    verdict: Verdict
    reason: str


class Decision(StrEnum):
    """Whether the challenger may become champion; skipped where gates.mode is off."""

    PROMOTE = "promote"
    REFUSE = "refuse"
    SKIPPED = "skipped"


class DecisionReport(Record):
    """All gate results and the decision they lead to."""

    mode: DecisionMode
    decision: Decision
    reason: str
    confidence: float
    eval_sha256: str
    n_eval_rows: int
    champion_version: int | None
    """Version the challenger was compared with; the decision is valid only while it is champion."""
    gates: tuple[GateResult, ...]
