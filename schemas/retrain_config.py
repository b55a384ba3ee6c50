"""`RetrainConfig`: when a scheduled retrain has a reason to train."""

from __future__ import annotations

from pydantic import Field

from schemas._base import Section


class RetrainConfig(Section):
    """When flow `retrain` trains; without a reason it says so and ends within seconds."""

    min_new_rows: int = Field(default=1, ge=1)
    """Rows that the version judged last was not made from; fewer are no reason to train."""
    max_age_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Train although nothing changed once the version judged last is older; null: never."""
    min_drift: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Population stability index from which fewer new rows are a reason too; null: do not measure."""
