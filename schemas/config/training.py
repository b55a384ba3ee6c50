"""`TrainingConfig`: the parameters of supervised fine-tuning, named as in TRL."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from schemas.base import LARGEST_SEED, Section


class Method(StrEnum):
    """Which weights are trained."""

    LORA = "lora"
    QLORA = "qlora"
    FULL = "full"


class Distribution(StrEnum):
    """How several training processes share the work."""

    DDP = "ddp"
    FSDP = "fsdp"


class Compile(StrEnum):
    """Whether torch.compile is used; auto decides from the planned steps."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Device(StrEnum):
    """Where training runs; auto takes cuda, then mps, then cpu."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


SCHEDULERS = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "cosine_with_min_lr": ("min_lr", "min_lr_rate", "num_cycles"),
    "constant": (),
    "constant_with_warmup": (),
    "polynomial": ("lr_end", "power"),
    "inverse_sqrt": ("timescale",),
    "warmup_stable_decay": ("num_decay_steps", "num_stable_steps", "min_lr_ratio", "num_cycles"),
}
"""Schedulers of transformers 5.17 that need no state of the evaluation, with their arguments."""
NEEDED_ARGUMENTS = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
"""One of these must be given."""
POLYNOMIAL_END = 1e-7
"""Default of `lr_end` in transformers 5.17."""

BatchSize = Annotated[int, Field(ge=1)]
LayerName = Annotated[str, StringConstraints(min_length=1)]


class LoraSettings(Section):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(default=16, ge=1)
    """Rank of the update matrices."""
    alpha: int = Field(default=32, ge=1)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Dropout on the adapter's input."""
    target_modules: LayerName | Annotated[tuple[LayerName, ...], Field(min_length=1)] = "all-linear"
    """Layers that get an adapter; all-linear is every linear layer except the head."""
    use_dora: bool = False
    """Weight-decomposed adapters (DoRA, arXiv:2402.09353): closer to full training, slower."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) (rsLoRA, arXiv:2312.03732), so that large ranks keep learning."""


class EarlyStopping(Section):
    """Stop when the validation loss no longer falls; the best checkpoint becomes the model."""

    patience: int = Field(default=3, ge=1)
    """Stop after this many evaluations of the validation loss in a row without improvement."""
    min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Smallest decrease below the best loss that counts as improvement, in nats per token."""


class GuardSettings(Section):
    """When training stops because something is wrong."""

    spike_factor: float = Field(default=3.0, gt=1, allow_inf_nan=False)
    """A loss this many times the median of the 20 before, and 0.1 nats above it, is a spike."""
    spike_patience: int = Field(default=5, ge=1)
    """Stop after this many steps in a row above the spike limit."""
    min_learning_fraction: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Share by which the mean of the last tenth of the losses must be below that of the first tenth, with a
    tolerance of three standard errors; not checked with fewer than 10 losses."""


class TrainingConfig(Section):
    """Parameters of TRL's `SFTTrainer`; defaults measured on SmolLM2-135M and two CPU cores."""

    method: Method = Method.LORA
    """lora trains adapters and merges them; qlora does so on 4-bit weights (GPU); full trains every weight."""
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Seed of data order, dropout and adapter weights; null takes the seed of the run."""
    lora: LoraSettings = LoraSettings()
    """Adapter settings, used when method is lora or qlora."""
    device: Device = Device.AUTO
    """Where training runs."""
    num_train_epochs: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Passes over the training rows; ignored when max_steps is set."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; null trains num_train_epochs."""
    per_device_train_batch_size: BatchSize | Literal["auto"] = 1
    """Sequences per device and forward pass, packed ones when packing is on; auto takes what fits into memory."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Forward passes per optimiser step; computed from effective_batch_size if that is set."""
    effective_batch_size: int | None = Field(default=None, ge=1)
    """Sequences per optimiser step over all processes; null: batch size x accumulation x processes."""
    learning_rate: float = Field(default=5e-4, gt=0, lt=1, allow_inf_nan=False)
    """Peak learning rate of AdamW; about ten times smaller for method full."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, allow_inf_nan=False)
    """Share of the steps in which the learning rate rises from 0 to its peak."""
    lr_scheduler_type: str = "cosine"
    """Learning rate schedule after the warm-up, by its name in transformers."""
    lr_scheduler_kwargs: dict[str, float] = {}
    """Arguments of the scheduler, e.g. {min_lr_rate: 0.1} for cosine_with_min_lr."""
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """AdamW weight decay."""
    neftune_noise_alpha: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Strength of noise on the embeddings (NEFTune, arXiv:2310.05914); null adds none."""
    max_grad_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Clip gradients to this norm."""
    logging_steps: int = Field(default=1, ge=1)
    """Steps between points of the loss curve."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Steps between evaluations of the validation loss; needs split.validation_fraction."""
    early_stopping: EarlyStopping | None = None
    """Stop when the validation loss rises and keep the best checkpoint; needs eval_steps."""
    guards: GuardSettings = GuardSettings()
    """Limits that stop the training with an error."""
    save_steps: int = Field(default=20, ge=1)
    """Steps between checkpoints; a killed run loses at most this many."""
    save_total_limit: int = Field(default=2, ge=1)
    """Last checkpoints to keep during training, in addition to the best."""
    packing: bool = True
    """Join short rows into sequences of packing_length_tokens, if the model keeps them apart."""
    packing_length_tokens: int = Field(default=512, ge=8)
    """Length of a packed sequence; raised to the longest row when that is longer."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute activations, slower by about a quarter; auto: only when memory is short."""
    torch_compile: Compile = Compile.AUTO
    """Compile the model; auto: if the planned steps save more time than compiling takes."""
    processes: int = Field(default=1, ge=1)
    """Training processes, one per device; more than one uses accelerate launch."""
    distribution: Distribution = Distribution.DDP
    """ddp: each process has the complete model; fsdp: they share weights and optimiser state."""
    accelerate_config: str | None = Field(default=None, min_length=1)
    """File written by accelerate config; replaces processes and distribution."""

    @property
    def has_adapter(self) -> bool:
        """True when an adapter is trained instead of the weights of the model."""
        return self.method is not Method.FULL

    @model_validator(mode="after")
    def _known_scheduler(self) -> TrainingConfig:
        if self.lr_scheduler_type not in SCHEDULERS:
            raise ValueError(f"lr_scheduler_type must be one of {', '.join(SCHEDULERS)}")
        known = SCHEDULERS[self.lr_scheduler_type]
        unknown = sorted(set(self.lr_scheduler_kwargs) - set(known))
        if unknown:
            raise ValueError(
                f"lr_scheduler_kwargs: {self.lr_scheduler_type} takes "
                f"{', '.join(known) or 'no arguments'}, not {', '.join(unknown)}"
            )
        needed = NEEDED_ARGUMENTS.get(self.lr_scheduler_type, ())
        if needed and not set(needed) & set(self.lr_scheduler_kwargs):
            raise ValueError(
                f"lr_scheduler_kwargs: {self.lr_scheduler_type} needs {' or '.join(needed)}"
            )
        if self.lr_scheduler_type == "polynomial":
            end = self.lr_scheduler_kwargs.get("lr_end", POLYNOMIAL_END)
            if end >= self.learning_rate:
                raise ValueError(
                    f"lr_scheduler_kwargs: lr_end={end:g} must be below "
                    f"learning_rate={self.learning_rate:g}"
                )
        return self

    @model_validator(mode="after")
    def _batches_agree(self) -> TrainingConfig:
        if self.per_device_train_batch_size == "auto" and self.effective_batch_size is None:
            raise ValueError(
                "per_device_train_batch_size=auto needs effective_batch_size, "
                "the sequences of one optimiser step"
            )
        if self.effective_batch_size is not None and self.gradient_accumulation_steps > 1:
            raise ValueError(
                "set effective_batch_size or gradient_accumulation_steps, not both: "
                "the second is computed from the first"
            )
        return self

    @model_validator(mode="after")
    def _early_stopping_is_measured(self) -> TrainingConfig:
        if self.early_stopping and not self.eval_steps:
            raise ValueError("early_stopping needs eval_steps: how often to measure")
        return self
