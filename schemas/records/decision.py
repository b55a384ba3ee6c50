"""The gate report: every comparison and the decision that rests on them."""

from __future__ import annotations

from enum import StrEnum

from schemas.base import Record
from schemas.config.gates import Against, DecisionMode
from schemas.rule_ids import Severity, Verdict


class GateResult(Record):
    """One comparison the decision rests on."""

    id: str
    metric: str
    against: Against
    opponent: float | None = None
    """Figure of the base or the champion; None for an absolute gate."""
    challenger: float | None = None
    gain: float | None = None
    """Improvement in the metric's own unit; positive is better, whichever way the metric runs."""
    interval_low: float | None = None
    interval_high: float | None = None
    """Ends of the paired bootstrap interval of the gain; of the figure for an absolute gate."""
    n_rows: int = 0
    """Rows that both sides have a figure for."""
    limit: float
    """absolute: worst figure allowed; else what the interval's lower end must exceed."""
    severity: Severity = Severity.BLOCK
    verdict: Verdict
    reason: str


class Decision(StrEnum):
    """Whether the challenger may become champion; skipped where gates.mode is off."""

    PROMOTE = "promote"
    REFUSE = "refuse"
    SKIPPED = "skipped"


class DecisionReport(Record):
    """What the gates found: the whole ground of a decision."""

    mode: DecisionMode
    decision: Decision
    reason: str
    confidence: float
    eval_sha256: str
    n_eval_rows: int
    champion_version: int | None
    """Version the challenger was compared with; only while it is champion does the decision hold."""
    gates: tuple[GateResult, ...]
