"""What a training process is given and says, without a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from schemas.config.training import TrainingConfig
from tasks.models.shape import ModelShape
from tasks.training.live_metrics import LiveMetrics
from tasks.training.plan.batching import Batching
from tasks.training.plan.choices import choose
from tasks.training.plan.machine import Machine
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec

SMOLLM_SHAPE = ModelShape(
    n_parameters=134_515_008,
    n_layers=30,
    hidden_size=576,
    intermediate_size=1536,
    n_attention_heads=9,
    n_key_value_heads=3,
    head_size=64,
    vocabulary_size=49_152,
)
"""Of SmolLM2-135M."""


def make_spec(folder: Path) -> TrainingSpec:
    return TrainingSpec(
        model=folder,
        train_tokens=folder / "train.parquet",
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        fingerprint={"data": "d"},
        training=TrainingConfig(),
        choices=choose(TrainingConfig(), Machine(device="cpu", free_memory_bytes=1), False, None),
        batching=Batching(per_device=1, accumulation=1),
        seed=7,
    )


def step(number: int, loss: float = 1.0) -> TrainingEvent:
    return TrainingEvent(kind=EventKind.STEP, step=number, n_steps=9, loss=loss)


def watch(spec: TrainingSpec, *events: TrainingEvent, warn: Callable[[str], object]) -> None:
    with LiveMetrics(spec, "toy", warn) as metrics:
        for event in events:
            metrics(event)
