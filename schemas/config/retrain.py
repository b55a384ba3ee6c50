"""`RetrainConfig`: when a scheduled retrain has a reason to train."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Section


class RetrainConfig(Section):
    """When flow `retrain` trains; without a reason it says so and ends within seconds."""

    min_new_rows: int = Field(default=1, ge=1)
    """Rows new since the version judged last, or gone, that are a reason to train; a changed row is one."""
    max_age_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Fewer changed rows are a reason too once the version judged last is older; null: never."""
    min_drift: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Fewer changed rows are a reason too from this population stability index on; null: not measured."""
