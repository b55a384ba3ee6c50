"""Base classes of settings and records."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

FETCHED: Final = "fetched"
"""Marks a field with addresses whose content is hashed: their passwords and signatures identify nothing."""
LARGEST_SEED: Final = 2**32 - 1
"""That NumPy takes."""


class Section(BaseModel):
    """Immutable, without unknown keys; the string below a field describes it in forms and pages."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Record(BaseModel):
    """Base of every record: immutable, no unknown field, JSON in and out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
