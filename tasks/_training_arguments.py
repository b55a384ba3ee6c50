"""The configuration in the words of TRL and PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.training_config import Method, TrainingConfig
from tasks._device import has_bfloat16_units
from tasks._training_spec import TrainingSpec

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl import SFTConfig


def sft_arguments(spec: TrainingSpec, longest_row_tokens: int, device: str) -> SFTConfig:
    """Translate the configuration for TRL.

    Args:
        spec: What to train.
        longest_row_tokens: Rows are never cut, so a packed sequence holds at least this many.
        device: Where to train.

    Returns:
        TRL's arguments.
    """
    from trl import SFTConfig

    training = spec.training
    return SFTConfig(
        output_dir=str(spec.checkpoints),
        num_train_epochs=training.num_train_epochs,
        max_steps=training.max_steps or -1,
        per_device_train_batch_size=training.per_device_train_batch_size,
        per_device_eval_batch_size=training.per_device_train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_ratio,  # a float below 1 is a share of all steps
        lr_scheduler_type=training.lr_scheduler_type,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        logging_steps=training.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if training.eval_steps else "no",
        eval_steps=training.eval_steps,
        save_strategy="steps",
        save_steps=training.save_steps,
        save_total_limit=training.save_total_limit,
        packing=training.packing,
        eval_packing=False,
        max_length=max(
            longest_row_tokens, training.packing_length_tokens if training.packing else 0
        ),
        gradient_checkpointing=training.gradient_checkpointing,
        bf16=has_bfloat16_units(device),
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        seed=spec.seed,
        data_seed=spec.seed,
        report_to="none",
        disable_tqdm=True,
        save_only_model=False,
    )


def lora_arguments(training: TrainingConfig, new_token_ids: tuple[int, ...]) -> LoraConfig | None:
    """Translate the adapter settings for PEFT.

    Args:
        training: The configuration.
        new_token_ids: Tokens without a trained embedding: they all start at the mean, and a model
            whose embeddings are frozen could never tell its stop token from the others.

    Returns:
        PEFT's arguments, or None when every weight is trained.
    """
    from peft import LoraConfig

    if training.method is not Method.LORA:
        return None
    target = training.lora.target_modules
    return LoraConfig(
        r=training.lora.r,
        lora_alpha=training.lora.alpha,
        lora_dropout=training.lora.dropout,
        target_modules=target if isinstance(target, str) else list(target),
        task_type="CAUSAL_LM",
        trainable_token_indices=list(new_token_ids) or None,
    )
