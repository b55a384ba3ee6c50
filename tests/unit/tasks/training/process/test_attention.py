"""Attention is asked for only where the class of the model has it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.config.training import TrainingConfig
from tasks.models.prepared import load_prepared_model
from tasks.training.plan.choices import DEFAULT_ATTENTION, choose
from tasks.training.plan.machine import Machine
from tasks.training.process._attention import find_attention, find_class, supports
from tests.support.families import make_family

CPU = Machine(device="cpu", free_memory_bytes=2**33)
GPU = Machine(device="cuda", free_memory_bytes=2**36, has_bf16_units=True, has_flash_attention=True)


@pytest.mark.parametrize(
    ("name", "on_cpu", "on_gpu"),
    [
        ("llama", "sdpa", "flash_attention_2"),
        ("gpt_oss", DEFAULT_ATTENTION, DEFAULT_ATTENTION),
        ("mamba", DEFAULT_ATTENTION, DEFAULT_ATTENTION),
        ("gemma3", "sdpa", "flash_attention_2"),
    ],
)
def test_each_class_gets_an_attention_that_it_has(
    tmp_path: Path, name: str, on_cpu: str, on_gpu: str
) -> None:
    make_family(name).save_pretrained(tmp_path)
    for machine, expected in ((CPU, on_cpu), (GPU, on_gpu)):
        wished = choose(TrainingConfig(), machine, False, None)
        found = find_attention(tmp_path, wished)
        assert found.attention == expected
        assert (found is wished) is (wished.attention == expected)
    options = find_attention(tmp_path, choose(TrainingConfig(), CPU, False, None)).model_arguments
    assert ("attn_implementation" in options) is (on_cpu != DEFAULT_ATTENTION)
    assert load_prepared_model(tmp_path, "cpu", **options).config.model_type


def test_the_reason_names_the_class(tmp_path: Path) -> None:
    make_family("gpt_oss").save_pretrained(tmp_path)
    found = find_attention(tmp_path, choose(TrainingConfig(), CPU, False, None))
    assert found.described()["attention"] == "default: GptOssForCausalLM has no sdpa"
    assert find_class(tmp_path).__name__ == "GptOssForCausalLM"  # type: ignore[union-attr]


def test_supports_reads_the_class() -> None:
    flash = SimpleNamespace(_supports_flash_attn=True, _supports_sdpa=False)
    listed = SimpleNamespace(
        _supports_flash_attn=True, _compatible_flash_implementations=["flash_attention_3"]
    )
    assert supports(flash, "flash_attention_2")  # type: ignore[arg-type]
    assert not supports(flash, "sdpa")  # type: ignore[arg-type]
    assert not supports(listed, "flash_attention_2")  # type: ignore[arg-type]
    assert supports(listed, "flash_attention_3")  # type: ignore[arg-type]
    assert not supports(None, "sdpa")
