"""Translate the configuration into arguments of TRL, PEFT and bitsandbytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from schemas.config.training import Distribution, Method, TrainingConfig
from schemas.errors import ConfigError
from tasks.training.plan.choices import Choices, Kernels, Packing, Precision
from tasks.training.plan.setup import sequence_tokens
from tasks.training.process._trained_parts import (
    has_swapped_weights,
    is_target,
    new_token_arguments,
    unadapted_parts,
)
from tasks.training.process.checkpoints import WRITING
from tasks.training.process.spec import TrainingSpec

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel
    from trl import SFTConfig


FUSED_EXPERTS = ".experts.gate_up_proj"
"""A parameter of transformers 5 in the place of the layers that experts had."""
EXPERT_LAYERS = ("gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
"""Those layers: PEFT 0.21 turns their names into parameters, and refuses names that it cannot."""


def sft_arguments(spec: TrainingSpec, choices: Choices, longest_row_tokens: int) -> SFTConfig:
    """Return TRL's arguments.

    Rows are never cut, so a packed sequence has room for at least `longest_row_tokens`; rows that
    share their prompts are packed already and are not prepared by TRL.
    """
    from trl import SFTConfig

    training, batching = spec.training, spec.batching
    return SFTConfig(
        output_dir=str(spec.checkpoints / WRITING),
        num_train_epochs=training.num_train_epochs,
        max_steps=training.max_steps or -1,
        per_device_train_batch_size=batching.per_device,
        per_device_eval_batch_size=batching.per_device,
        gradient_accumulation_steps=batching.accumulation,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_ratio,  # a float below 1 is a share of all steps
        lr_scheduler_type=training.lr_scheduler_type,
        lr_scheduler_kwargs=dict(training.lr_scheduler_kwargs),
        weight_decay=training.weight_decay,
        neftune_noise_alpha=training.neftune_noise_alpha,
        max_grad_norm=training.max_grad_norm,
        logging_steps=1,  # the curve is thinned later, the same with or without an interruption
        logging_nan_inf_filter=False,
        eval_strategy="steps" if training.eval_steps else "no",
        eval_steps=training.eval_steps,
        eval_on_start=bool(training.eval_steps) and spec.resume_from is None,
        save_strategy="steps",
        save_steps=training.save_steps,
        save_total_limit=None,  # the callback seals and removes checkpoints
        save_only_model=False,
        packing=choices.packing is Packing.PADDING_FREE,
        dataset_kwargs={"skip_prepare_dataset": choices.packing is Packing.SHARED_PROMPT},
        eval_packing=False,
        max_length=sequence_tokens(training, longest_row_tokens),
        use_liger_kernel=choices.kernels is Kernels.LIGER,
        torch_compile=choices.torch_compile,
        bf16=choices.precision is Precision.BF16,
        fp16=choices.precision is Precision.FP16,
        use_cpu=choices.device == "cpu",
        dataloader_pin_memory=choices.device == "cuda",
        ddp_find_unused_parameters=False,
        seed=spec.seed,
        data_seed=spec.seed,
        report_to="none",
        disable_tqdm=True,
        **_distribution_arguments(training, choices),
    )


def _distribution_arguments(training: TrainingConfig, choices: Choices) -> dict[str, Any]:
    """Under fsdp, fsdp recomputes activations, which saves a gathering of weights."""
    is_sharded = (
        training.distribution is Distribution.FSDP
        and training.processes > 1
        and training.accelerate_config is None  # the user's file decides
    )
    if not is_sharded:
        return {"gradient_checkpointing": choices.gradient_checkpointing}
    return {
        "gradient_checkpointing": False,
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "state_dict_type": "FULL_STATE_DICT",
            "activation_checkpointing": choices.gradient_checkpointing,
        },
    }


def lora_arguments(
    training: TrainingConfig, model: PreTrainedModel, new_token_ids: tuple[int, ...]
) -> LoraConfig | None:
    """Return PEFT's arguments; None when every weight is trained.

    Adapters go into the text decoder only. `new_token_ids` have no trained rows, so those are
    trained too, in the embeddings and in the head.
    """
    from peft import LoraConfig

    if not training.has_adapter:
        return None
    target = training.lora.target_modules
    return LoraConfig(
        r=training.lora.r,
        lora_alpha=training.lora.alpha,
        lora_dropout=training.lora.dropout,
        target_modules=target if isinstance(target, str) else list(target),
        use_dora=training.lora.use_dora,
        use_rslora=training.lora.use_rslora,
        task_type="CAUSAL_LM",
        exclude_modules=unadapted_parts(model),
        fan_in_fan_out=has_swapped_weights(model),
        **new_token_arguments(model, new_token_ids, target),
    )


def check_targets(training: TrainingConfig, model: PreTrainedModel) -> None:
    """Check that the model has every layer named for an adapter, as PEFT looks for them.

    Args:
        training: `lora.target_modules` lists layers, or is a regular expression of full names.
        model: Without an adapter.

    Raises:
        ConfigError: The model has no such layer.
    """
    target = training.lora.target_modules
    if not training.has_adapter or target == "all-linear":
        return
    names = [name for name, _ in model.named_modules()]
    if any(name.endswith(FUSED_EXPERTS) for name, _ in model.named_parameters()):
        names += EXPERT_LAYERS
    patterns: list[str | Sequence[str]] = (
        [target] if isinstance(target, str) else [(one,) for one in target]
    )
    unknown = [one for one in patterns if not any(is_target(name, one) for name in names)]
    missing = [one if isinstance(one, str) else one[0] for one in unknown]
    if missing:
        from torch.nn import Linear

        modules = model.named_modules()
        layers = {name.rpartition(".")[2] for name, one in modules if isinstance(one, Linear)}
        raise ConfigError(
            "the model has no such layer to adapt",
            where="training.lora.target_modules",
            expected=f"all-linear, or some of {', '.join(sorted(layers))}",
            got=", ".join(missing),
            fix="set training.lora.target_modules=all-linear, or list layers that the model has",
        )


def quantisation_arguments(training: TrainingConfig, choices: Choices) -> dict[str, Any]:
    """Return arguments of `from_pretrained` for method qlora: NF4, doubly quantised, one GPU.

    The weights are quantised as they are loaded, hence on the GPU of this process: by default all
    processes would load onto the first one.

    Source:
        Dettmers et al. 2023, arXiv:2305.14314, section 3.
    """
    if training.method is not Method.QLORA:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, choices.weights_dtype),
    )
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return {"quantization_config": quantisation, "device_map": {"": rank}}
