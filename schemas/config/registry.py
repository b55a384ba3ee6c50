"""`RegistryConfig`: under which name models are registered, and what becomes of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Section

RegisteredName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$", max_length=200)
]
Alias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class ApprovalConfig(Section):
    """A person's word before a model becomes champion."""

    is_required: bool = False
    """Pause before the promotion and ask."""
    timeout_seconds: int = Field(default=24 * 3600, ge=1)
    """No answer within this time refuses."""


class RegistryConfig(Section):
    """Where the model is registered."""

    name: RegisteredName = "construction-faq-smollm2"
    """Registered model name; letters, digits, dot, dash, underscore and space."""
    experiment: str = Field(default="sft-flow", min_length=1)
    """MLflow experiment of the run."""
    alias: Alias = "champion"
    """Alias a promoted version gets."""
    previous_alias: Alias = "previous"
    """Alias of the version that was champion before."""
    challenger_alias: Alias = "challenger"
    """Alias of the version judged last."""
    n_reload_prompts: int = Field(default=4, ge=1)
    """Prompts that the registered files answer again, in a fresh process, before an alias moves."""
    keep_rejected: int = Field(default=3, ge=0)
    """Refused versions whose weights are kept; of older ones only figures and lineage stay."""
    approval: ApprovalConfig = ApprovalConfig()
    """A person's word before the promotion."""

    @model_validator(mode="after")
    def _aliases_differ(self) -> RegistryConfig:
        aliases = (self.alias, self.previous_alias, self.challenger_alias)
        if len({alias.lower() for alias in aliases}) < len(aliases):
            raise ValueError(
                "registry.alias, registry.previous_alias and registry.challenger_alias must differ"
            )
        return self
