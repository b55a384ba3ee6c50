"""How to train on this machine: every choice with its reason, from the machine's record alone."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from schemas.base import Record
from schemas.config.training import Compile, Distribution, Method, TrainingConfig
from schemas.errors import ConfigError
from tasks.training.plan.machine import Machine

COMPILE_SECONDS = 216.0
"""What compiling SmolLM2-135M took on two CPU cores (torch 2.13)."""
COMPILE_GAIN_FRACTION = 0.04
"""Share of the time it saved there: LoRA, 217 to 226 tokens per second."""
HUB_FLASH_ATTENTION = "kernels-community/flash-attn2"
"""What transformers 5.17 takes from the hub for FlashAttention 2."""


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class Packing(StrEnum):
    """How short rows share a sequence."""

    OFF = "off"
    PADDING_FREE = "padding_free"
    """TRL's best-fit decreasing; attention reads the borders off the position ids."""
    SHARED_PROMPT = "shared_prompt"
    """Ours: rows attend one by one, and what all their prompts begin with is computed once."""


class Kernels(StrEnum):
    """Who computes norms, activations and rotations."""

    TORCH = "torch"
    HUB = "hub"
    LIGER = "liger"


class Head(StrEnum):
    """Who computes the loss from the last hidden states."""

    OURS = "ours"
    """Labelled positions alone, loss alone."""
    FUSED = "fused"
    """TRL's, in Triton."""


class Choices(Record):
    """What was chosen for this machine."""

    device: str
    precision: Precision
    weights_dtype: str
    """Format the model is loaded in, a name of torch."""
    attention: str
    """`attn_implementation` of transformers."""
    packing: Packing
    gradient_checkpointing: bool
    kernels: Kernels
    head: Head
    torch_compile: bool
    threads: int
    """CPU threads of each training process."""
    reasons: dict[str, str]
    """One sentence a choice, by field."""

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` beside the folder."""
        chosen: dict[str, Any] = {
            "dtype": self.weights_dtype,
            "attn_implementation": self.attention,
        }
        return chosen | ({"use_kernels": True} if self.kernels is Kernels.HUB else {})

    @property
    def environment(self) -> dict[str, str]:
        """Variables to set before the training process starts, where the user has not."""
        hub = self.kernels is Kernels.HUB or self.attention == HUB_FLASH_ATTENTION
        return {
            "OMP_NUM_THREADS": str(self.threads),
            "HF_HUB_OFFLINE": "0" if hub else "1",  # model and rows are local, kernels may not be
        }

    def described(self) -> dict[str, str]:
        """Lay the choices out for a report.

        Returns:
            `value: reason` by name, in the order of the fields.
        """
        return {
            name: f"{_word(getattr(self, name))}: {reason}" for name, reason in self.reasons.items()
        }


def _word(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def choose(
    training: TrainingConfig,
    machine: Machine,
    has_to_recompute: bool | None,
    planned_seconds: float | None,
) -> Choices:
    """Choose how to train.

    Args:
        training: What the user asked for.
        machine: Where it will run.
        has_to_recompute: Whether one sequence at a time fits into memory only when activations
            are computed twice; None when not known.
        planned_seconds: Length of the training without compiling; None when not known.

    Returns:
        The choices with their reasons.

    Raises:
        ConfigError: Method qlora without a CUDA GPU or without bitsandbytes.
    """
    refuse_qlora_elsewhere(training, machine)
    precision, why_precision = _precision(machine)
    attention, why_attention = _attention(machine)
    is_flash = attention != "sdpa"
    packing, why_packing = _packing(training, machine, is_flash)
    recompute, why_recompute = _recomputation(training, has_to_recompute)
    kernels, why_kernels = _kernels(machine)
    head, why_head = _head(machine)
    is_compiled, why_compile = _compile(training, machine, planned_seconds)
    threads, why_threads = _threads(training, machine)
    return Choices(
        device=machine.device,
        precision=precision,
        weights_dtype=_weights_dtype(training, machine, precision),
        attention=attention,
        packing=packing,
        gradient_checkpointing=recompute,
        kernels=kernels,
        head=head,
        torch_compile=is_compiled,
        threads=threads,
        reasons={
            "device": _why_device(machine),
            "precision": why_precision,
            "attention": why_attention,
            "packing": why_packing,
            "gradient_checkpointing": why_recompute,
            "kernels": why_kernels,
            "head": why_head,
            "torch_compile": why_compile,
            "threads": why_threads,
        },
    )


def refuse_qlora_elsewhere(training: TrainingConfig, machine: Machine) -> None:
    """Refuse 4-bit training where it cannot run, before anything is loaded.

    Args:
        training: Names the method.
        machine: Where it would run.

    Raises:
        ConfigError: Method qlora without a CUDA GPU or without bitsandbytes, or over fsdp.
    """
    if training.method is not Method.QLORA:
        return
    if machine.device == "cuda" and machine.has_bitsandbytes:
        if training.distribution is Distribution.FSDP and training.processes > 1:
            raise ConfigError(
                "4-bit weights cannot be divided among processes here",
                where="training.distribution",
                expected="ddp for method qlora",
                got="fsdp",
                fix="set training.distribution=ddp, or training.method=lora",
            )
        return
    package = "with" if machine.has_bitsandbytes else "without"
    raise ConfigError(
        "QLoRA cannot run on this machine",
        where="training.method",
        expected="a CUDA GPU and the package bitsandbytes",
        got=f"device {machine.device}, {package} bitsandbytes",
        fix="set training.method=lora, or run on a CUDA GPU after pip install bitsandbytes",
    )


def _why_device(machine: Machine) -> str:
    if machine.device == "cpu":
        return "no GPU was found or asked for"
    return machine.name if machine.n_devices == 1 else f"{machine.n_devices} x {machine.name}"


def _precision(machine: Machine) -> tuple[Precision, str]:
    if machine.device == "mps":
        return Precision.FP32, "half precision was not measured on Apple GPUs"
    if machine.has_bf16_units:
        return Precision.BF16, f"this {_kind(machine)} has bf16 units"
    if machine.device == "cuda" and machine.has_fp16_units:
        return Precision.FP16, "this GPU has fp16 but no bf16 units; the loss is scaled"
    return (
        Precision.FP32,
        f"this {_kind(machine)} has no bf16 units: emulated, it is 5 times slower",
    )


def _kind(machine: Machine) -> str:
    return "processor" if machine.device == "cpu" else "GPU"


def _weights_dtype(training: TrainingConfig, machine: Machine, precision: Precision) -> str:
    """Trained weights stay in fp32, else small updates are rounded away; frozen ones need not."""
    if machine.device == "cpu" or not training.has_adapter or precision is Precision.FP32:
        return "float32"
    return "bfloat16" if precision is Precision.BF16 else "float16"


def _attention(machine: Machine) -> tuple[str, str]:
    if machine.device != "cuda":
        return "sdpa", "flash attention needs a CUDA GPU"
    if not machine.has_bf16_units:
        return "sdpa", "flash attention needs an Ampere or newer GPU"
    if machine.has_flash_attention:
        return "flash_attention_2", "the package flash_attn is installed"
    if machine.has_hub_kernels:
        return HUB_FLASH_ATTENTION, "the package kernels is installed and fetches it from the hub"
    return "sdpa", "neither flash_attn nor kernels is installed"


def _packing(training: TrainingConfig, machine: Machine, is_flash: bool) -> tuple[Packing, str]:
    if not training.packing:
        return Packing.OFF, "training.packing=false"
    if is_flash:
        return Packing.PADDING_FREE, "flash attention keeps rows apart without a mask"
    if machine.device != "cpu":
        return Packing.PADDING_FREE, "a GPU is faster with one kernel and a mask than row by row"
    return Packing.SHARED_PROMPT, "rows attend one by one; what all prompts begin with is read once"


def _recomputation(training: TrainingConfig, has_to_recompute: bool | None) -> tuple[bool, str]:
    if training.gradient_checkpointing != "auto":
        wish = training.gradient_checkpointing
        return wish, f"training.gradient_checkpointing={str(wish).lower()}"
    if has_to_recompute:
        return True, "without it not one sequence fits into memory"
    if has_to_recompute is None:
        return False, "memory decides once rows and model are prepared"
    return False, "memory holds the activations"


def _kernels(machine: Machine) -> tuple[Kernels, str]:
    if machine.device != "cuda":
        return Kernels.TORCH, "hub and Liger kernels are for CUDA GPUs"
    if machine.has_hub_kernels:
        return Kernels.HUB, "the package kernels is installed"
    if machine.has_liger:
        return Kernels.LIGER, "the package liger_kernel is installed, kernels is not"
    return Kernels.TORCH, "neither kernels nor liger_kernel is installed"


def _head(machine: Machine) -> tuple[Head, str]:
    if machine.has_triton:
        return Head.FUSED, "TRL's head runs fused in Triton here"
    return Head.OURS, "without Triton TRL's head takes about a fifth of a step for its statistics"


def _compile(
    training: TrainingConfig, machine: Machine, planned_seconds: float | None
) -> tuple[bool, str]:
    """Compile where the seconds saved exceed those that compiling takes."""
    if training.torch_compile is not Compile.AUTO:
        return (
            training.torch_compile is Compile.ON,
            f"training.torch_compile={training.torch_compile}",
        )
    if machine.device != "cpu":
        return False, "its gain was measured on CPUs only; training.torch_compile=on tries it"
    if planned_seconds is None:
        return False, "the length of the training is not known"
    saved = planned_seconds * COMPILE_GAIN_FRACTION
    sentence = (
        f"compiling takes about {COMPILE_SECONDS:.0f} s and saves about {saved:.0f} s "
        f"of {planned_seconds:.0f} s"
    )
    return saved > COMPILE_SECONDS, sentence


def _threads(training: TrainingConfig, machine: Machine) -> tuple[int, str]:
    cores, processes = machine.physical_cores, training.processes
    return max(1, cores // processes), f"physical cores: {cores}, processes: {processes}"
