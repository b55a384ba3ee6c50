from __future__ import annotations

from typing import Any

import pytest

from schemas.config.training import Method, TrainingConfig
from schemas.errors import MemoryExhausted
from tasks.models.shape import ModelShape
from tasks.training.plan.choices import choose
from tasks.training.plan.machine import Machine
from tasks.training.plan.memory import (
    MemoryEstimate,
    PassSize,
    count_trained,
    describe,
    estimate_memory,
    too_large,
)
from tests.support.trainings import SMOLLM_SHAPE

CPU = Machine(device="cpu", free_memory_bytes=2**33)
GPU = Machine(device="cuda", free_memory_bytes=2**36, has_bf16_units=True, has_triton=True)
TINY = ModelShape(
    n_parameters=1000,
    n_layers=2,
    hidden_size=8,
    intermediate_size=16,
    n_attention_heads=4,
    n_key_value_heads=2,
    head_size=2,
    vocabulary_size=100,
)


def estimated(
    shape: ModelShape,
    tokens: int,
    machine: Machine = CPU,
    *,
    has_to_recompute: bool = False,
    **settings: Any,
) -> MemoryEstimate:
    training = TrainingConfig.model_validate(settings)
    choices = choose(training, machine, has_to_recompute, None)
    size = PassSize(n_sequences=1, sequence_tokens=tokens)
    return estimate_memory(training, choices, shape, size, 2**33)


def test_full_fine_tuning_of_a_tiny_model_by_hand() -> None:
    found = estimated(TINY, 10, method="full", packing=False)
    assert (found.weights_bytes, found.gradients_bytes, found.optimiser_bytes) == (4000, 4000, 8000)
    # Numbers a token and layer: 6 x 8 + 2 x 8 + 2 x 4 + 4 x 16 = 136; 10 tokens, 2 layers, 4 bytes.
    assert found.activations_bytes == 136 * 10 * 2 * 4
    assert found.head_bytes == 3 * 4 * 100 * 10


def test_count_trained_of_an_adapter_by_hand() -> None:
    # q 8+8, k 8+4, v 8+4, o 8+8, gate 8+16, up 8+16, down 16+8: 128 a layer and rank.
    assert count_trained(TrainingConfig.model_validate({"lora": {"r": 3}}), TINY) == 128 * 3 * 2
    dora = TrainingConfig.model_validate({"lora": {"r": 3, "use_dora": True}})
    assert count_trained(dora, TINY) == (128 * 3 + 8 + 4 + 4 + 8 + 16 + 16 + 8) * 2


@pytest.mark.parametrize(
    ("method", "measured_mib"), [("lora", (2695, 2804, 3174)), ("full", (3420, 3815))]
)
def test_the_estimate_is_near_what_was_measured(method: str, measured_mib: tuple[int, ...]) -> None:
    """Resident peaks of SmolLM2-135M, one sequence of 512 tokens, in three trainers."""
    found = estimated(SMOLLM_SHAPE, 512, method=method).total_bytes / 2**20
    for peak in measured_mib:
        assert 0.75 * peak <= found <= 1.25 * peak


def test_recomputation_keeps_one_layer_whole() -> None:
    plain = estimated(SMOLLM_SHAPE, 512)
    recomputed = estimated(SMOLLM_SHAPE, 512, has_to_recompute=True)
    assert recomputed.activations_bytes < plain.activations_bytes / 5
    assert recomputed.weights_bytes == plain.weights_bytes


def test_fsdp_divides_weights_gradients_and_optimiser() -> None:
    alone = estimated(SMOLLM_SHAPE, 512, method="full")
    shared = estimated(SMOLLM_SHAPE, 512, method="full", processes=2, distribution="fsdp")
    assert shared.optimiser_bytes == alone.optimiser_bytes // 2
    assert shared.weights_bytes == alone.weights_bytes // 2
    assert shared.activations_bytes == alone.activations_bytes


def test_half_precision_halves_frozen_weights_on_a_gpu() -> None:
    found = estimated(SMOLLM_SHAPE, 512, GPU)
    adapter = count_trained(TrainingConfig(), SMOLLM_SHAPE)
    assert found.weights_bytes == 2 * SMOLLM_SHAPE.n_parameters + 4 * adapter
    assert found.optimiser_bytes == 8 * adapter


def test_four_bit_weights_are_a_quarter_of_bf16_beside_the_embeddings() -> None:
    machine = GPU.model_copy(update={"has_bitsandbytes": True})
    found = estimated(SMOLLM_SHAPE, 512, machine, method="qlora")
    embeddings = 49_152 * 576
    linear = round(0.52 * (SMOLLM_SHAPE.n_parameters - embeddings))
    adapter = 4 * count_trained(TrainingConfig(), SMOLLM_SHAPE)
    assert found.weights_bytes == linear + 2 * embeddings + adapter


def test_the_parts_add_up() -> None:
    found = estimated(TINY, 10)
    parts = found.model_dump()
    assert found.total_bytes == sum(parts.values()) - parts["available_bytes"]
    assert describe(found).count("GiB") == 6


def test_too_large_lists_numbers_and_what_would_help() -> None:
    training = TrainingConfig(method=Method.FULL, gradient_checkpointing=False, processes=2)
    size = PassSize(n_sequences=1, sequence_tokens=512)
    estimate = estimated(SMOLLM_SHAPE, 512, method="full").model_copy(
        update={"available_bytes": 2**30}
    )
    assert not estimate.has_room
    error = too_large(estimate, training, size)
    assert isinstance(error, MemoryExhausted)
    assert (error.exit_code, "1.00 GiB" in error.expected) == (3, True)
    for advice in ("gradient_checkpointing", "lora", "packing_length_tokens", "processes"):
        assert advice in error.fix


def activations(n_sequences: int, machine: Machine, **settings: Any) -> int:
    training = TrainingConfig.model_validate(settings)
    choices = choose(training, machine, False, None)
    size = PassSize(n_sequences=n_sequences, sequence_tokens=512)
    return estimate_memory(training, choices, SMOLLM_SHAPE, size, 2**40).activations_bytes


def test_a_flattened_batch_without_flash_attention_keeps_a_mask_of_its_square() -> None:
    one, sixteen = activations(1, GPU), activations(16, GPU)
    # Everything else grows with the tokens; the mask, 2 bytes and one a layer, with their square.
    mask = 2 * 30 * 512**2
    assert sixteen - 16 * one == mask * (16**2 - 16)
    flash = GPU.model_copy(update={"has_flash_attention": True})
    assert activations(16, flash) == 16 * activations(1, flash)


def test_a_padded_batch_keeps_a_mask_of_each_sequence() -> None:
    one, two, four = (activations(n, GPU, packing=False) for n in (1, 2, 4))
    assert two > 2 * one  # one sequence alone has no padding, hence no mask
    assert four == 2 * two
