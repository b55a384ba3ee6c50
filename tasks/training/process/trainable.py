"""Check before anything is computed that a model can be trained as configured."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError
from tasks.models.prepared import read_facts
from tasks.training.process._arguments import check_targets, lora_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_trainable(folder: Path, training: TrainingConfig) -> None:
    """Check that the layers of a prepared model can have the adapters of a configuration.

    The model is built without weights, so this takes seconds whatever its size.

    Args:
        folder: Of the prepared model.
        training: The configuration.

    Raises:
        ConfigError: A layer is missing, or cannot have such an adapter.
    """
    if not training.has_adapter:
        return
    model = build_without_weights(folder)
    if model is None:
        return  # the training process checks the same, only later
    check_targets(training, model)
    from peft import get_peft_model

    arguments = lora_arguments(training, model, read_facts(folder).added_token_ids)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the training process shows them
            get_peft_model(model, arguments)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(
            "the model cannot have the adapters of the configuration",
            where="training.lora",
            expected=f"settings that suit {type(model).__name__}",
            got=" ".join(str(error).split()),
            fix="change the setting that is named, list other layers in "
            "training.lora.target_modules, or set training.method=full",
        ) from error


def build_without_weights(folder: Path) -> PreTrainedModel | None:
    """Build a prepared model's layers on torch's device `meta`, which keeps no numbers.

    None for code of a model's own that needs numbers while it is built.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = read_facts(folder).trust_remote_code
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    except (RuntimeError, ValueError, TypeError, AttributeError):
        return None
