"""`RegistryConfig`: name and aliases of registered models, and how many keep their weights."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import Section

RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


def _require_free_alias(alias: str) -> str:
    if RESERVED_ALIAS.fullmatch(alias):
        raise ValueError(
            f"MLflow reserves the alias {alias}: `latest` and `v` with a number name versions"
        )
    return alias


RegisteredName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_. -]*[A-Za-z0-9_.-])?$", max_length=200),
]
Alias = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=255),
    AfterValidator(_require_free_alias),
]
ExperimentName = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$", max_length=500)]


class ApprovalConfig(Section):
    """Approval by a reviewer before a model becomes champion."""

    is_required: bool = False
    """Pause the flow before a promotion until a reviewer approves or refuses it."""
    timeout_seconds: int = Field(default=24 * 3600, ge=1)
    """Refuse the promotion without an answer within this time."""


class RegistryConfig(Section):
    """Where models are registered."""

    name: RegisteredName = "construction-faq-smollm2"
    """Registered model name; letters, digits, dot, dash, underscore and space."""
    experiment: ExperimentName = "sft-flow"
    """MLflow experiment of the run."""
    alias: Alias = "champion"
    """Alias of the promoted version."""
    previous_alias: Alias = "previous"
    """Alias of the previous champion."""
    challenger_alias: Alias = "challenger"
    """Alias of the last evaluated version."""
    n_reload_prompts: int = Field(default=4, ge=1)
    """Prompts to answer again with the registered files, in a new process, before an alias moves."""
    keep_rejected: int = Field(default=3, ge=0)
    """Versions that were not promoted and keep their weights; older ones keep only metrics and lineage."""
    approval: ApprovalConfig = ApprovalConfig()
    """Approval before the promotion."""

    @model_validator(mode="after")
    def _aliases_differ(self) -> RegistryConfig:
        aliases = (self.alias, self.previous_alias, self.challenger_alias)
        if len({alias.lower() for alias in aliases}) < len(aliases):
            raise ValueError(
                "registry.alias, registry.previous_alias and registry.challenger_alias must differ"
            )
        return self
