from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.training.process._isolation import RowsMix
from tasks.training.process._packing import (
    SharedPrefixCollator,
    pack_rows,
    share_prefix,
)
from tasks.training.process._row_attention import attend_by_rows, suits_rows
from tests.support.prefixes import PREFIX, make_rows
from tests.support.toy import load_toy


def summed_loss(model: Any, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    return found


@pytest.mark.parametrize("prefix", [PREFIX, []])
def test_a_packed_batch_has_the_loss_and_gradient_of_its_rows(
    tmp_path: Path, prefix: list[int]
) -> None:
    model = load_toy(tmp_path / "toy")
    rows = make_rows(prefix=prefix)
    alone = torch.zeros(())
    for row in rows:
        labels = torch.tensor([row["labels"]])
        alone = alone + summed_loss(model, labels, input_ids=torch.tensor([row["input_ids"]]))
    alone.backward()
    expected = gradients(model)
    attend_by_rows(model)
    batch = SharedPrefixCollator(tuple(prefix))(list(pack_rows(rows, 60, prefix)))
    together = summed_loss(model, batch.pop("labels"), **batch)
    together.backward()
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


def test_a_changed_row_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    model = load_toy(tmp_path / "toy")
    attend_by_rows(model)
    rests = {"input_ids": [10, 11, 12, 20, 21], "labels": [-100] * 5, "seq_lengths": [3, 2]}
    changed = {**rests, "input_ids": [90, 91, 92, 20, 21]}
    collate = SharedPrefixCollator(tuple(PREFIX))
    first, second = (
        model(**collate([each]), use_cache=False).logits[0] for each in (rests, changed)
    )
    assert not torch.allclose(first[4:7], second[4:7])
    assert torch.equal(first[:4], second[:4])
    assert torch.equal(first[7:], second[7:])


def test_without_row_lengths_the_model_attends_as_before(tmp_path: Path) -> None:
    model = load_toy(tmp_path / "toy").eval()
    inputs = {
        "input_ids": torch.tensor([[0, 0, 30, 31], [20, 21, 22, 23]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
    }
    before = model(**inputs).logits
    attend_by_rows(model)
    assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sliding_window", 8),
        ("layer_types", ["linear_attention", "full_attention"]),
        ("output_router_logits", True),
    ],
)
def test_models_with_other_ways_between_tokens_do_not_suit(
    tmp_path: Path, setting: str, value: object
) -> None:
    model = load_toy(tmp_path / "toy")
    assert suits_rows(model, 16)
    setattr(model.config, setting, value)
    assert not suits_rows(model, 16)
    with pytest.raises(RowsMix, match="its layers combine tokens otherwise"):
        share_prefix(model, [make_rows()], 60)
