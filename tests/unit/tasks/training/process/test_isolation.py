"""Packed rows against rows alone: which models and collators keep them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from schemas.errors import TrainingContractBroken
from tasks.training.plan.choices import Precision
from tasks.training.process._isolation import RowsMix, check_isolation, check_wrapped
from tasks.training.process._packing import pack_with_trl
from tests.support.families import make_family

ROWS = [list(range(10, 22)), list(range(40, 57)), list(range(100, 109))]


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gpt2", "gemma3_text"])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_attention_by_positions_keeps_rows_apart(name: str, precision: Precision) -> None:
    model = make_family(name).eval()
    check_isolation(model, pack_with_trl, ROWS, precision)
    assert not model.training


@pytest.mark.parametrize("name", ["falcon", "opt", "bamba", "qwen3_5", "mamba"])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_models_that_mix_packed_rows_are_found(name: str, precision: Precision) -> None:
    with pytest.raises(RowsMix):
        check_isolation(make_family(name), pack_with_trl, ROWS, precision)


def run_together(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    ids = torch.tensor([[token for row in rows for token in row]])
    return {"input_ids": ids, "position_ids": torch.arange(ids.shape[1])[None]}


def test_a_collator_without_borders_is_found() -> None:
    with pytest.raises(RowsMix, match="differ from those of the row alone"):
        check_isolation(make_family("llama"), run_together, ROWS)


def test_a_small_leak_is_found_in_16_bits_too() -> None:
    """Half a leak: the batch attends across the border with a tenth of the weight."""
    model = make_family("llama")
    forward = model.model.forward

    def leaking(**inputs: Any) -> Any:
        output = forward(**inputs)
        states = output.last_hidden_state
        if states.shape[1] > len(ROWS[0]):
            mean = states[:, : len(ROWS[0])].mean(dim=1, keepdim=True)
            states[:, len(ROWS[0]) :] += 0.4 * mean / mean.abs().max() * states.std()
        return output

    model.model.forward = leaking
    with pytest.raises(RowsMix, match="change with the row before"):
        check_isolation(model, pack_with_trl, ROWS, Precision.BF16)


def test_a_model_that_refuses_packed_batches_is_found() -> None:
    model = make_family("llama")
    forward = model.model.forward

    def strict(input_ids: Any, use_cache: bool) -> Any:
        return forward(input_ids=input_ids, use_cache=use_cache)

    model.model.forward = strict
    with pytest.raises(RowsMix, match="does not accept packed rows"):
        check_isolation(model, pack_with_trl, ROWS)


def test_a_full_memory_is_no_leak() -> None:
    def full(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        check_isolation(make_family("llama"), full, ROWS)


def test_dropout_does_not_count_as_a_leak() -> None:
    model = make_family("gpt2")
    assert model.config.resid_pdrop > 0
    model.train()
    check_isolation(model, pack_with_trl, ROWS)
    assert model.training


def test_a_wrapped_model_is_tried_by_its_logits() -> None:
    check_wrapped(make_family("llama"), pack_with_trl, ROWS)
    with pytest.raises(TrainingContractBroken, match="packed rows would be mixed") as caught:
        check_wrapped(make_family("opt"), pack_with_trl, ROWS)
    assert "training.packing=false" in caught.value.fix
