"""`RetrainConfig`: when a scheduled retrain trains."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Section


class RetrainConfig(Section):
    """When flow `retrain` trains; without a reason it reports so and ends within seconds."""

    min_new_rows: int = Field(default=1, ge=1)
    """Retrain when at least this many rows are new, changed or removed since the last evaluated version."""
    max_age_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Retrain on fewer changed rows, at least one, once the last evaluated version is older. Null disables."""
    min_drift: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Retrain on fewer changed rows, at least one, from this population stability index on. Null disables."""
