from __future__ import annotations

from typing import Any

import pytest

from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError
from tasks.training.plan.choices import (
    COMPILE_GAIN_FRACTION,
    COMPILE_SECONDS,
    HUB_FLASH_ATTENTION,
    Choices,
    choose,
)
from tasks.training.plan.machine import Machine

CPU = Machine(device="cpu", free_memory_bytes=2**33, physical_cores=6)
AMPERE = Machine(
    device="cuda",
    name="A100",
    free_memory_bytes=2**36,
    physical_cores=8,
    has_bf16_units=True,
    has_fp16_units=True,
    has_triton=True,
)
TURING = AMPERE.model_copy(update={"has_bf16_units": False, "name": "T4"})


def chosen(machine: Machine, seconds: float | None = 60.0, **settings: Any) -> Choices:
    return choose(TrainingConfig.model_validate(settings), machine, False, seconds)


def with_packages(machine: Machine, *names: str) -> Machine:
    return machine.model_copy(update=dict.fromkeys(names, True))


def test_a_processor_without_bf16_units_trains_in_fp32_with_our_head() -> None:
    found = chosen(CPU)
    assert (found.precision, found.weights_dtype, found.attention) == ("fp32", "float32", "sdpa")
    assert (found.packing, found.head, found.kernels) == ("shared_prompt", "ours", "torch")
    assert not found.gradient_checkpointing
    assert "5 times slower" in found.reasons["precision"]


def test_a_processor_with_bf16_units_keeps_its_weights_in_fp32() -> None:
    found = chosen(with_packages(CPU, "has_bf16_units"))
    assert (found.precision, found.weights_dtype) == ("bf16", "float32")


@pytest.mark.parametrize(
    ("machine", "method", "precision", "dtype"),
    [
        (AMPERE, "lora", "bf16", "bfloat16"),
        (AMPERE, "full", "bf16", "float32"),
        (TURING, "lora", "fp16", "float16"),
        (TURING, "full", "fp16", "float32"),
    ],
)
def test_a_gpu_trains_in_the_format_it_has_units_for(
    machine: Machine, method: str, precision: str, dtype: str
) -> None:
    found = chosen(machine, method=method)
    assert (found.precision, found.weights_dtype, found.head) == (precision, dtype, "fused")


@pytest.mark.parametrize(
    ("packages", "attention", "packing", "kernels"),
    [
        ((), "sdpa", "padding_free", "torch"),
        (("has_flash_attention",), "flash_attention_2", "padding_free", "torch"),
        (("has_hub_kernels",), HUB_FLASH_ATTENTION, "padding_free", "hub"),
        (("has_flash_attention", "has_liger"), "flash_attention_2", "padding_free", "liger"),
        (("has_hub_kernels", "has_liger"), HUB_FLASH_ATTENTION, "padding_free", "hub"),
    ],
)
def test_a_gpu_uses_the_kernels_that_are_installed(
    packages: tuple[str, ...], attention: str, packing: str, kernels: str
) -> None:
    found = chosen(with_packages(AMPERE, *packages))
    assert (found.attention, found.packing, found.kernels) == (attention, packing, kernels)


def test_flash_attention_is_not_for_older_gpus() -> None:
    assert chosen(with_packages(TURING, "has_hub_kernels")).attention == "sdpa"


def test_an_apple_gpu_trains_in_fp32() -> None:
    found = chosen(Machine(device="mps", free_memory_bytes=2**33))
    assert (found.precision, found.attention, found.kernels) == ("fp32", "sdpa", "torch")


@pytest.mark.parametrize(
    ("n_devices", "visible", "reason"),
    [
        (1, "0", "A100"),
        (4, "2", "A100, GPU 2: the emptiest of 4"),
        (2, "0,1", "2 x A100"),
        (4, "3,1", "2 x A100, GPUs 3, 1: the emptiest of 4"),
    ],
)
def test_the_gpus_of_the_training_are_named(n_devices: int, visible: str, reason: str) -> None:
    gpus = {"n_devices": n_devices, "visible_gpus": {"CUDA_VISIBLE_DEVICES": visible}}
    found = chosen(AMPERE.model_copy(update=gpus))
    assert found.described()["device"] == f"cuda: {reason}"
    assert found.visible_gpus == {"CUDA_VISIBLE_DEVICES": visible}


def test_packing_off_stays_off() -> None:
    assert chosen(AMPERE, packing=False).packing == "off"


@pytest.mark.parametrize(
    ("wish", "has_to_recompute", "is_on"),
    [("auto", False, False), ("auto", True, True), (False, True, False), (True, False, True)],
)
def test_activations_are_recomputed_only_when_memory_or_the_user_asks(
    wish: Any, has_to_recompute: bool, is_on: bool
) -> None:
    training = TrainingConfig(gradient_checkpointing=wish)
    assert choose(training, CPU, has_to_recompute, None).gradient_checkpointing is is_on


def test_compiling_is_chosen_where_it_repays_itself() -> None:
    break_even = COMPILE_SECONDS / COMPILE_GAIN_FRACTION
    assert not chosen(CPU, break_even * 0.99).torch_compile
    found = chosen(CPU, break_even * 1.01)
    assert found.torch_compile
    assert "216 s" in found.reasons["torch_compile"]
    assert not chosen(CPU, None).torch_compile
    assert chosen(CPU, 1.0, torch_compile="on").torch_compile
    assert not chosen(CPU, 1e9, torch_compile="off").torch_compile
    assert not chosen(AMPERE, 1e9).torch_compile


@pytest.mark.parametrize(("processes", "threads"), [(1, 6), (2, 3), (4, 1), (9, 1)])
def test_cores_are_shared_out_among_processes(processes: int, threads: int) -> None:
    found = chosen(CPU, processes=processes)
    assert found.threads == threads
    assert found.environment["OMP_NUM_THREADS"] == str(threads)


def test_only_hub_kernels_let_the_training_process_ask_the_hub() -> None:
    assert chosen(AMPERE).environment["HF_HUB_OFFLINE"] == "1"
    found = chosen(with_packages(AMPERE, "has_hub_kernels"))
    assert found.environment["HF_HUB_OFFLINE"] == "0"
    assert found.model_arguments == {
        "dtype": "bfloat16",
        "attn_implementation": HUB_FLASH_ATTENTION,
        "use_kernels": True,
    }


def test_every_choice_has_a_reason() -> None:
    fields = set(Choices.model_fields) - {"reasons", "weights_dtype", "visible_gpus"}
    for machine in (CPU, AMPERE, TURING):
        found = chosen(machine)
        assert set(found.reasons) == fields
        assert all(found.reasons.values())
    assert chosen(CPU).described()["torch_compile"].startswith("off: compiling takes")


@pytest.mark.parametrize(
    "machine", [CPU, with_packages(CPU, "has_bitsandbytes"), AMPERE], ids=["cpu", "bnb", "gpu"]
)
def test_qlora_is_refused_without_a_gpu_and_bitsandbytes(machine: Machine) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(machine, method="qlora")
    assert caught.value.where == "training.method"
    assert "CUDA GPU" in caught.value.expected
    assert f"device {machine.device}" in caught.value.got


def test_qlora_is_taken_with_both_but_not_over_fsdp() -> None:
    machine = with_packages(AMPERE, "has_bitsandbytes")
    assert chosen(machine, method="qlora").precision == "bf16"
    with pytest.raises(ConfigError, match="4-bit"):
        chosen(machine, method="qlora", processes=2, distribution="fsdp")
