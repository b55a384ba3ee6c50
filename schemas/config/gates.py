"""`GateConfig`: what the challenger must show to be promoted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Section
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


DEFAULT_GATES = (
    GateDefinition("loss_below_base", "loss", Against.BASE),
    GateDefinition("loss_below_champion", "loss", Against.CHAMPION),
)

GateName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
JUDGE_METRIC = "judge_win_rate"
RESERVED_NAMES = ("min_eval_rows", "same_evaluation")
"""Gates that always run and compare no metric."""


class GateConfig(Section):
    """What the challenger must show to be promoted."""

    mode: DecisionMode = DecisionMode.ENFORCE
    """enforce, dry_run (evaluate and report, move no alias) or off (evaluate, check no gates, register nothing)."""
    min_eval_rows: int = Field(default=20, ge=2)
    """Refuse with fewer held-out rows, since the interval would mean little."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1, allow_inf_nan=False)
    """Level of the paired bootstrap interval."""
    n_resamples: int = Field(default=9999, ge=100)
    """Bootstrap resamples; scipy's default."""
    checks: dict[GateName, GateSetting] = {}
    """Gates by name: changes to loss_below_base and loss_below_champion, and additional gates."""

    @model_validator(mode="after")
    def _own_gates_are_complete(self) -> GateConfig:
        known = {gate.id for gate in DEFAULT_GATES}
        for name, setting in self.checks.items():
            if name in RESERVED_NAMES:
                raise ValueError(f"gates.checks: the name {name} is reserved, choose another")
            if name not in known and (setting.metric is None or setting.against is None):
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
