"""`StorageConfig`: how much of SFT_HOME old outputs may take."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Section


class StorageConfig(Section):
    """Outputs of stages that are removed at the end of each run; a later run computes what it needs again."""

    max_size_gb: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Remove the outputs not used for longest until the rest fits, in 10^9 bytes. Null disables."""
    max_age_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Remove outputs that no run has used, and checkpoints that no training has written, for longer. Null disables."""
