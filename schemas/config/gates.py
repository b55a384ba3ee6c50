"""`GateConfig`: what the challenger must show to be promoted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Section
from schemas.metrics import EXPECTED_PREFIX, LOSS_PREFIX, PROMPT_DEPENDENCE
from schemas.rule_ids import Severity


class DecisionMode(StrEnum):
    """Whether the gates decide (enforce), only report (dry_run, no alias moves), or do not run (off).

    With off, models are evaluated, but no gates run, so nothing is registered.
    """

    ENFORCE = "enforce"
    DRY_RUN = "dry_run"
    OFF = "off"


class Against(StrEnum):
    """What the challenger is compared with."""

    ABSOLUTE = "absolute"
    BASE = "base"
    CHAMPION = "champion"


class GateSetting(Section):
    """One gate. For a default gate, only the given keys change."""

    metric: str | None = None
    """Metric to compare, e.g. loss, exact_match, chrf or a custom metric."""
    against: Against | None = None
    """absolute, base or champion."""
    limit: float | None = Field(default=None, allow_inf_nan=False)
    """absolute: worst value allowed. base, champion: the lower end of the gain's interval must exceed it."""
    severity: Severity | None = None
    """block refuses, warn only reports, off skips the gate."""


@dataclass(frozen=True)
class GateDefinition:
    """A gate with all settings."""

    id: str
    metric: str
    against: Against
    limit: float = 0.0
    severity: Severity = Severity.BLOCK


DEPENDENCE_MARGIN = 0.2
LOSS_MARGIN = 0.3
EXPECTED_MARGIN = 0.3
"""How much worse than the base a model may be beyond doubt; docs/promoting.md says why."""

DEFAULT_GATES = (
    GateDefinition("loss_below_base", "loss", Against.BASE),
    GateDefinition("loss_below_champion", "loss", Against.CHAMPION),
    GateDefinition("prompt_dependence_kept", PROMPT_DEPENDENCE, Against.BASE, -DEPENDENCE_MARGIN),
)
RETENTION_GATES = (
    ("_loss_kept", LOSS_PREFIX, LOSS_MARGIN),
    ("_expected_kept", EXPECTED_PREFIX, EXPECTED_MARGIN),
)
"""For each set of `evaluation.retention`: what follows its name, the metric's prefix, the margin."""

GateName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
JUDGE_METRIC = "judge_win_rate"
MIN_TAIL_RESAMPLES = 10
"""Beyond each end of an interval, or chance decides where the end is."""
RESERVED_NAMES = ("min_eval_rows", "same_evaluation")
"""Gates that always run and compare no metric."""


class GateConfig(Section):
    """What the challenger must show to be promoted."""

    mode: DecisionMode = DecisionMode.ENFORCE
    """enforce, dry_run (evaluate and report, move no alias) or off (evaluate, check no gates, register nothing)."""
    min_eval_rows: int = Field(default=20, ge=2)
    """Refuse with fewer held-out rows; rows that share a prompt or nearly their text count as one."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1, allow_inf_nan=False)
    """1 - alpha: all challengers of one champion together pass falsely with a probability below alpha.
    For challenger n on the same rows, the interval's level is 1 - alpha / (n (n + 1))."""
    n_resamples: int = Field(default=9999, ge=100)
    """Bootstrap resamples, at least 20 / (1 - confidence); more are drawn where a gate's level is higher."""
    checks: dict[GateName, GateSetting] = {}
    """Gates by name: changes to the default gates, and additional gates."""

    @model_validator(mode="after")
    def _resamples_reach_the_ends(self) -> GateConfig:
        needed = math.ceil(2 * MIN_TAIL_RESAMPLES / (1 - self.confidence) - 1e-6)
        if self.n_resamples < needed:
            raise ValueError(
                f"gates.n_resamples={self.n_resamples} leaves fewer than {MIN_TAIL_RESAMPLES} "
                f"resamples beyond each end of an interval with gates.confidence="
                f"{self.confidence:g}, so chance would decide: set at least {needed}"
            )
        return self

    @model_validator(mode="after")
    def _own_gates_are_complete(self) -> GateConfig:
        known = {gate.id for gate in DEFAULT_GATES}
        for name, setting in self.checks.items():
            if name in RESERVED_NAMES:
                raise ValueError(f"gates.checks: the name {name} is reserved, choose another")
            is_known = name in known or name.endswith(tuple(end for end, _, _ in RETENTION_GATES))
            if not is_known and (setting.metric is None or setting.against is None):
                raise ValueError(f"gates.checks.{name} needs metric and against")
            if setting.against is Against.ABSOLUTE and setting.metric == JUDGE_METRIC:
                raise ValueError(f"gates.checks.{name}: a judge needs against=base or champion")
            if setting.against is Against.ABSOLUTE and setting.limit is None:
                raise ValueError(f"gates.checks.{name} is absolute and needs a limit")
        return self

    @property
    def definitions(self) -> tuple[GateDefinition, ...]:
        """Every gate with its settings, the default ones first."""
        found = {gate.id: gate for gate in DEFAULT_GATES}
        for name, setting in self.checks.items():
            default = found.get(name, GateDefinition(name, "", Against.BASE))
            given = {key: value for key, value in setting if value is not None}
            found[name] = replace(default, **given)
        return tuple(found.values())


def with_retention(gates: GateConfig, names: Iterable[str]) -> GateConfig:
    """Add the gates of the retention sets, with the changes that `checks` has to them.

    Args:
        gates: What a promotion requires.
        names: Of the sets, as in `evaluation.retention`.

    Returns:
        The gates with those of the sets.
    """
    added = {}
    for name in names:
        for ending, prefix, margin in RETENTION_GATES:
            default = GateSetting(metric=prefix + name, against=Against.BASE, limit=-margin)
            setting = gates.checks.get(name + ending, GateSetting())
            given = {key: value for key, value in setting if value is not None}
            added[name + ending] = default.model_copy(update=given)
    return gates.model_copy(update={"checks": {**gates.checks, **added}})
