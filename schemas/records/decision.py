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
    confidence: float | None = None
    """Level of the interval: that of the report for a gate that can promote, else `gates.confidence`."""
    n_rows: int = 0
    """Rows for which both models have a value."""
    n_groups: int = 0
    """Groups of these rows with the same prompt or nearly the same text, which are drawn together."""
    n_left_out_rows: int = 0
    """Rows that were not compared, because one of the models was trained on them."""
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


class Challenge(Record):
    """The place of a challenger among those compared with the same opponent on held-out rows."""

    opponent: str = ""
    """First digits of the sha256 of the champion, or of the base where there is no champion."""
    row_set: int = 1
    """Number of the set of held-out rows; sets that share more than half of their rows count as one."""
    number: int = 1
    """Number of the challenger on this set."""


class SeenRows(Record):
    """Held-out rows that a model was trained on, or whose group has such a row."""

    challenger: tuple[int, ...] = ()
    """Trained by the challenger or the version that it continued from."""
    champion: tuple[int, ...] = ()
    unknown: tuple[str, ...] = ()
    """Models whose rows are not known, e.g. a version registered by an earlier release."""


class DecisionReport(Record):
    """All gate results and the decision they lead to."""

    mode: DecisionMode
    decision: Decision
    reason: str
    confidence: float
    """Level of gates that can promote, higher than `gates.confidence`: see `challenge`."""
    eval_sha256: str
    n_eval_rows: int
    champion_version: int | None
    """Version the challenger was compared with; the decision is valid only while it is champion."""
    gates: tuple[GateResult, ...]
    challenge: Challenge | None = None
    """How many challengers the error is spent over; None in a report of an earlier release."""
    notes: tuple[str, ...] = ()
    """What else a reader must know: the number of the challenger, and rows that were left out."""
