"""The hooks of the trainer: the warm-up, the tokens counted, where weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from schemas.config.training import Method, TrainingConfig
from tasks.training.plan.choices import choose
from tasks.training.plan.machine import Machine
from tasks.training.process._trainer import (
    count_tokens,
    load_trainable_model,
    shorten_warmup,
    tokens_so_far,
)
from tests.support.toy import toy_spec


@pytest.mark.parametrize(("n_steps", "expected"), [(1, 0), (2, 1), (100, 10)])
def test_shorten_warmup_leaves_a_step_to_learn(n_steps: int, expected: int) -> None:
    from transformers import TrainingArguments

    args = TrainingArguments(output_dir="x", warmup_steps=0.1, use_cpu=True)
    shorten_warmup(args, n_steps)
    assert args.get_warmup_steps(n_steps) == expected


def test_tokens_so_far_are_those_of_the_last_step() -> None:
    log = [{"loss": 1.0, "n_tokens_seen": 5}, {"loss": 1.0, "n_tokens_seen": 9}, {"eval_loss": 2.0}]
    assert tokens_so_far(log) == 9
    assert tokens_so_far([]) == 0


def test_count_tokens_counts_rows_and_no_padding() -> None:
    ids = torch.zeros(2, 4)
    assert count_tokens({"input_ids": ids}) == 8
    assert count_tokens({"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 0, 0]])}) == 2
    assert count_tokens({"input_ids": ids, "row_lengths": [3, 2, 5]}) == 13


@pytest.mark.parametrize(("rank", "place"), [(None, 0), ("1", 1), ("3", 3)])
def test_each_process_quantises_onto_its_own_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str | None, place: int
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    training = TrainingConfig(method=Method.QLORA, processes=4)
    machine = Machine(
        device="cuda",
        n_devices=4,
        free_memory_bytes=2**36,
        has_bf16_units=True,
        has_bitsandbytes=True,
    )
    spec = toy_spec(tmp_path, "a").model_copy(
        update={"training": training, "choices": choose(training, machine, False, None)}
    )
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda folder, **options: asked.update(options),
    )
    load_trainable_model(spec)
    assert asked["device_map"] == {"": place}
    assert asked["quantization_config"].load_in_4bit
