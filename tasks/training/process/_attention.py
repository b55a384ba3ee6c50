"""The attention that a model's class supports, among those that suit the machine."""

from __future__ import annotations

from pathlib import Path

from tasks.models.prepared import read_facts
from tasks.training.plan.choices import DEFAULT_ATTENTION, Choices


def find_attention(folder: Path, choices: Choices) -> Choices:
    """Replace the chosen attention where the class of the model does not have it.

    Args:
        folder: Of the prepared model.
        choices: Made for the machine.

    Returns:
        The choices; without flash attention the model takes `sdpa`, and without that what
        transformers takes by default.
    """
    model_class = find_class(folder)
    if supports(model_class, choices.attention):
        return choices
    name = getattr(model_class, "__name__", "the model")
    other = "sdpa" if supports(model_class, "sdpa") else DEFAULT_ATTENTION
    return choices.replace("attention", other, f"{name} has no {choices.attention}")


def find_class(folder: Path) -> type | None:
    """Find the class that `AutoModelForCausalLM` loads; None for code of the model's own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = read_facts(folder).trust_remote_code
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
    found = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple) else found


def supports(model_class: type | None, attention: str) -> bool:
    """Return whether a class attends in a way; a class that is not known only by default."""
    if attention == "sdpa":
        return bool(getattr(model_class, "_supports_sdpa", False))
    listed = getattr(model_class, "_compatible_flash_implementations", None)
    has_flash = getattr(model_class, "_supports_flash_attn", False)
    return bool(has_flash) and (listed is None or attention in listed)
