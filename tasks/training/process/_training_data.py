"""Read the tokenised rows in the trainer's form: packed where the model keeps packed rows apart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.training import Distribution
from tasks.training.plan.choices import Choices, Packing
from tasks.training.plan.setup import sequence_tokens
from tasks.training.process._epoch_rows import repeat_rows
from tasks.training.process._isolation import RowsMix, check_isolation, check_wrapped
from tasks.training.process._packing import (
    SharedPrefixCollator,
    pack_with_trl,
    probe_rows,
    share_prefix,
)
from tasks.training.process.spec import TrainingSpec

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TrainingData:
    """The rows in the trainer's form."""

    training: Dataset
    validation: Dataset | None
    longest_row_tokens: int
    collator: SharedPrefixCollator | None = None
    """None leaves batches to TRL."""
    why_not_packed: str = ""
    """Why the packing that was chosen is not used."""
    untried: tuple[list[int], ...] = ()
    """Rows to try the packing on in the first step, where weights are divided by then only."""

    def packed_as(self, choices: Choices) -> Choices:
        """Return the choices with the packing that is used."""
        if not self.why_not_packed:
            return choices
        reason = f"this model does not keep packed rows apart: {self.why_not_packed}"
        return choices.replace("packing", Packing.OFF, reason)


def read_tokens(path: Path, seed: int) -> Dataset:
    """Load the tokenised rows of one epoch.

    Args:
        path: Parquet file with `input_ids`, `labels` (-100 = not trained) and perhaps `weight`.
        seed: Seed of the draw, where a weight is a fraction.

    Returns:
        The columns `input_ids` and `labels`, each row as often as its weight requires.
    """
    import pyarrow.parquet as parquet
    from datasets import Dataset

    table = parquet.read_table(path)
    rows = table.select(["input_ids", "labels"])
    if "weight" in table.column_names:
        rows = rows.take(repeat_rows(table.column("weight").to_numpy(), seed))
    return Dataset(rows)


def read_data(spec: TrainingSpec, model: PreTrainedModel) -> TrainingData:
    """Read training and validation rows, and pack them if the model keeps packed rows apart.

    With a packing the model is moved to the training's device, where it is tried.
    """
    sets = [read_tokens(spec.train_tokens, spec.seed)]
    if spec.validation_tokens and spec.training.eval_steps:
        sets.append(read_tokens(spec.validation_tokens, spec.seed))
    longest = max(len(tokens) for rows in sets for tokens in rows["input_ids"])
    collator, problem = None, ""
    untried: tuple[list[int], ...] = ()
    try:
        if spec.choices.packing is Packing.SHARED_PROMPT:
            limit = sequence_tokens(spec.training, longest)
            model.to(training_device(spec))
            sets, collator = share_prefix(model, sets, limit, spec.choices.precision)
        elif spec.choices.packing is Packing.PADDING_FREE and is_sharded(spec):
            untried = tuple(probe_rows(sets[0]))
        elif spec.choices.packing is Packing.PADDING_FREE:
            if not getattr(model, "is_quantized", False):  # its weights are on the device already
                model.to(training_device(spec))
            check_isolation(model, pack_with_trl, probe_rows(sets[0]), spec.choices.precision)
    except RowsMix as error:
        problem = str(error)
    validation = sets[1] if len(sets) > 1 else None
    return TrainingData(sets[0], validation, longest, collator, problem, untried)


def try_packing(model: nn.Module, untried: tuple[list[int], ...]) -> tuple[list[int], ...]:
    """Try the packing on rows that were not tried yet, if any; return those left, which are none."""
    if untried:
        check_wrapped(model, pack_with_trl, untried)
    return ()


def is_sharded(spec: TrainingSpec) -> bool:
    """Return whether each process trains a part of the weights."""
    training = spec.training
    return training.distribution is Distribution.FSDP and training.processes > 1


def training_device(spec: TrainingSpec) -> torch.device:
    """Return the device of this training process."""
    import torch

    if spec.choices.device == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device(spec.choices.device)
