"""`TrainingConfig`: the parameters of supervised fine-tuning, with the names TRL gives them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Method(StrEnum):
    """Which weights are trained."""

    LORA = "lora"
    FULL = "full"


class Device(StrEnum):
    """Where training runs; auto takes cuda, then mps, then cpu."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


LayerName = Annotated[str, StringConstraints(min_length=1)]


class LoraSettings(BaseModel):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(default=16, ge=1)
    """Rank of the update matrices."""
    alpha: int = Field(default=32, ge=1)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Dropout on the adapter's input."""
    target_modules: LayerName | Annotated[tuple[LayerName, ...], Field(min_length=1)] = "all-linear"
    """Layers that get an adapter; all-linear is every linear layer but the head."""


class TrainingConfig(BaseModel):
    """Parameters of TRL's `SFTTrainer`; defaults measured on SmolLM2-135M and two CPU cores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = Method.LORA
    """lora trains adapters and merges them; full trains every weight."""
    lora: LoraSettings = LoraSettings()
    """Read when method is lora."""
    device: Device = Device.AUTO
    """Where training runs."""
    num_train_epochs: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Passes over the training rows; ignored when max_steps is set."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; None trains num_train_epochs."""
    per_device_train_batch_size: int = Field(default=1, ge=1)
    """Sequences per device and forward pass; packed sequences when packing is on."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Forward passes per optimiser step; the effective batch is the product of both."""
    learning_rate: float = Field(default=5e-4, gt=0, lt=1, allow_inf_nan=False)
    """Peak learning rate of AdamW; about ten times smaller for method full."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, allow_inf_nan=False)
    """Share of the steps in which the learning rate rises from 0 to its peak."""
    lr_scheduler_type: str = "cosine"
    """Shape of the learning rate after the warm-up; any name transformers knows."""
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """AdamW weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Gradients are scaled down to this norm."""
    logging_steps: int = Field(default=1, ge=1)
    """Steps between points of the loss curve."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Steps between measurements of the held-out loss during training; None measures only at the end."""
    save_steps: int = Field(default=20, ge=1)
    """Steps between checkpoints; a killed run loses at most this many."""
    save_total_limit: int = Field(default=2, ge=1)
    """Checkpoints kept while training."""
    packing: bool = True
    """Join short rows into sequences of packing_length_tokens; position ids keep them apart."""
    packing_length_tokens: int = Field(default=512, ge=8)
    """Length of a packed sequence; raised to the longest row when that is longer."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory; slower by about a quarter."""

    @model_validator(mode="after")
    def _known_scheduler(self) -> TrainingConfig:
        known = (
            "linear",
            "cosine",
            "constant",
            "constant_with_warmup",
            "polynomial",
            "inverse_sqrt",
        )
        if self.lr_scheduler_type not in known:
            raise ValueError(f"lr_scheduler_type must be one of {', '.join(known)}")
        return self
