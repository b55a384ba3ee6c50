"""Rows are packed for the trainer where the model keeps them apart, and by themselves elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.config.training import Distribution
from tasks.training.plan.choices import Packing
from tasks.training.process._trainer import build_trainer
from tasks.training.process._training_data import is_sharded, read_data, training_device
from tasks.training.process.events import StopFlag
from tasks.training.process.spec import TrainingSpec
from tests.support.families import family_spec, row_states, states_alone, with_packing


def build(spec: TrainingSpec) -> Any:
    return build_trainer(spec, StopFlag(spec.checkpoints))


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("llama", {Packing.PADDING_FREE, Packing.SHARED_PROMPT}),
        ("opt", {Packing.SHARED_PROMPT}),
        ("falcon", set()),
    ],
)
@pytest.mark.parametrize("packing", [Packing.PADDING_FREE, Packing.SHARED_PROMPT, Packing.OFF])
def test_rows_are_the_same_in_the_trainers_batches_as_alone(
    tmp_path: Path, name: str, packed: set[Packing], packing: Packing
) -> None:
    spec = with_packing(family_spec(tmp_path, name, is_tied=name != "falcon"), packing)
    trainer = build(spec)
    assert trainer.choices.packing == (packing if packing in packed else Packing.OFF)
    notes = [note for note in trainer.notes if note.startswith("packing is off: this model")]
    assert len(notes) == (packing not in packed and packing is not Packing.OFF)
    together, alone = row_states(trainer), states_alone(trainer, spec)
    assert len(together) == len(alone)
    by_length = {len(row): row for row in together}
    for row in alone:
        torch.testing.assert_close(by_length[len(row)], row, atol=2e-4, rtol=1e-3)


def test_what_is_used_is_reported(tmp_path: Path) -> None:
    trainer = build(family_spec(tmp_path, "bamba"))
    described = trainer.choices.described()
    assert described["packing"].startswith("off: this model does not keep packed rows apart: ")
    assert described["attention"].startswith("sdpa: ")


def test_shards_are_tried_in_the_first_step(tmp_path: Path) -> None:
    spec = with_packing(family_spec(tmp_path, "llama"), Packing.PADDING_FREE)
    training = spec.training.model_copy(update={"distribution": Distribution.FSDP, "processes": 2})
    sharded = spec.model_copy(update={"training": training})
    assert is_sharded(sharded)
    assert not is_sharded(spec)
    data = read_data(sharded, torch.nn.Module())  # type: ignore[arg-type]
    assert len(data.untried) == 3
    trainer = build(spec)
    trainer.untried_rows = data.untried
    trainer.train()
    assert trainer.untried_rows == ()


def test_each_process_trains_on_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = family_spec(tmp_path, "llama")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert training_device(spec) == torch.device("cpu")
    choices = spec.choices.model_copy(update={"device": "cuda"})
    on_gpu = spec.model_copy(update={"choices": choices})
    assert training_device(on_gpu) == torch.device("cuda", 1)
