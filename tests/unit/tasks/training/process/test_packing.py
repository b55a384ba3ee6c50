"""Rows packed behind one copy of their prefix: the same losses and gradients as one by one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from tasks.training.plan.shared_prefix import shared_prefix
from tasks.training.process._packing import (
    SharedPrefixCollator,
    count_row_tokens,
    pack_rows,
    share_prefix,
)
from tasks.training.process._row_attention import NAME, attend_by_rows, suits_rows
from tests.support.toy import make_toy_model

PREFIX = [5, 6, 7, 8]


def make_rows(n_rows: int = 9, prefix: list[int] | None = None, seed: int = 0) -> Dataset:
    """Rows of 2 to 6 prompt tokens and 1 to 20 labelled ones after the prefix."""
    generator = random.Random(seed)
    rows = []
    for number in range(n_rows):
        head = PREFIX if prefix is None else prefix
        prompt = [20 + number] + [generator.randrange(10, 200) for _ in range(1 + number % 5)]
        answer = [generator.randrange(10, 200) for _ in range(generator.randrange(1, 20))]
        ids = head + prompt + answer
        rows.append({"input_ids": ids, "labels": [-100] * (len(ids) - len(answer)) + answer})
    return Dataset.from_list(rows)


def load_toy(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(make_toy_model(folder))


def summed_loss(model: Any, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    return found


def test_prefix_is_the_longest_that_all_rows_share() -> None:
    assert shared_prefix(make_rows()) == tuple(PREFIX)


def test_prefix_is_that_of_all_sets_together() -> None:
    assert shared_prefix(make_rows(), make_rows(prefix=[5, 6, 9, 8])) == (5, 6)
    assert shared_prefix(make_rows(), make_rows(prefix=[1])) == ()


def test_prefix_leaves_each_row_an_unlabelled_token_before_its_first_label() -> None:
    rows = Dataset.from_list(
        [
            {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
            {"input_ids": [1, 2, 3, 5], "labels": [-100, -100, -100, 5]},
        ]
    )
    assert shared_prefix(rows) == (1,)


def test_prefix_of_equal_rows_leaves_a_rest() -> None:
    rows = Dataset.from_list([{"input_ids": [1, 2], "labels": [-100, -100]}] * 2)
    assert shared_prefix(rows) == (1,)


def test_prefix_of_no_rows_is_empty() -> None:
    assert shared_prefix() == ()


def test_packing_keeps_every_token_and_the_limit() -> None:
    rows = make_rows()
    packed = pack_rows(rows, 40, PREFIX)
    assert max(len(ids) for ids in packed["input_ids"]) <= 36
    assert [len(ids) for ids in packed["input_ids"]] == [sum(n) for n in packed["seq_lengths"]]
    rests = sorted(ids[4:] for ids in rows["input_ids"])
    cut = []
    for sequence in packed:
        ids = list(sequence["input_ids"])
        for length in sequence["seq_lengths"]:
            cut.append(ids[:length])
            ids = ids[length:]
    assert sorted(cut) == rests


def test_row_tokens_count_the_prefix_for_each_row() -> None:
    assert count_row_tokens([4, 3, 5]) == 7 + 9


def test_collator_numbers_positions_on_from_the_prefix() -> None:
    sequences = [
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "seq_lengths": [2, 1]},
        {"input_ids": [4, 5], "labels": [4, 5], "seq_lengths": [2]},
    ]
    batch = SharedPrefixCollator((8, 9))(sequences)
    assert batch["input_ids"].tolist() == [[8, 9, 1, 2, 3, 4, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 2, 3]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 2, -100, -100, 5]]
    assert batch["row_lengths"] == [2, 2, 1, 2]
    assert batch["attention_mask"].tolist() == [[1] * 7]


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


def test_sharing_packs_all_sets_and_switches_the_attention(tmp_path: Path) -> None:
    model = load_toy(tmp_path / "toy")
    found = share_prefix(model, [make_rows(), make_rows(4, seed=1)], 60)
    assert found
    (train, validation), collator = found
    assert collator.prefix == tuple(PREFIX)
    assert sum(len(n) for n in train["seq_lengths"]) == 9
    assert sum(len(n) for n in validation["seq_lengths"]) == 4
    assert model.config._attn_implementation == NAME
    model.save_pretrained(tmp_path / "saved")
    assert NAME not in (tmp_path / "saved" / "config.json").read_text()


def test_a_model_that_drops_the_row_lengths_is_left_alone(tmp_path: Path) -> None:
    model = load_toy(tmp_path / "toy")
    forward = model.model.forward

    def deaf(*args: Any, row_lengths: Any = None, **options: Any) -> Any:
        return forward(*args, **options)

    model.model.forward = deaf
    assert share_prefix(model, [make_rows()], 60) is None
    assert model.config._attn_implementation == "sdpa"


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
    assert share_prefix(model, [make_rows()], 60) is None
