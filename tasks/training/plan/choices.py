"""Choose how to train on a machine; every choice comes with its reason."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from schemas.base import Record
from schemas.config.training import Compile, Distribution, Method, TrainingConfig
from schemas.errors import ConfigError
from tasks.training.plan.machine import Machine

COMPILE_SECONDS = 216.0
"""Measured: what compiling SmolLM2-135M took on two CPU cores (torch 2.13)."""
COMPILE_GAIN_FRACTION = 0.04
"""Share of the time it saved there: LoRA, 217 to 226 tokens per second."""
HUB_FLASH_ATTENTION = "kernels-community/flash-attn2"
"""The FlashAttention 2 kernel that transformers 5.17 downloads from the hub."""

DEFAULT_ATTENTION = "default"
"""Leaves the choice to transformers: for models that cannot attend as chosen for the machine."""


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class Packing(StrEnum):
    """How short rows share a sequence."""

    OFF = "off"
    PADDING_FREE = "padding_free"
    """TRL's best-fit decreasing; attention finds the borders in the position ids."""
    SHARED_PROMPT = "shared_prompt"
    """Rows attend one by one, and what all their prompts begin with is computed once."""


class Kernels(StrEnum):
    """What computes norms, activations and rotations."""

    TORCH = "torch"
    HUB = "hub"
    LIGER = "liger"


class Head(StrEnum):
    """What computes the loss from the last hidden states."""

    OURS = "ours"
    """Scores labelled positions only and computes no statistics (`_lm_head`)."""
    FUSED = "fused"
    """TRL's head, in Triton."""


class Choices(Record):
    """What was chosen for this machine."""

    device: str
    precision: Precision
    weights_dtype: str
    """Format the model is loaded in, a name of torch."""
    attention: str
    """`attn_implementation` of transformers, or `default`."""
    packing: Packing
    gradient_checkpointing: bool
    kernels: Kernels
    head: Head
    torch_compile: bool
    threads: int
    """CPU threads of each training process."""
    visible_gpus: dict[str, str] = Field(default_factory=dict)
    """The variable that shows the training its GPUs only, and its value; empty without CUDA."""
    reasons: dict[str, str]
    """One sentence for each choice, by field."""

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` besides the folder."""
        chosen: dict[str, Any] = {"dtype": self.weights_dtype}
        if self.attention != DEFAULT_ATTENTION:
            chosen["attn_implementation"] = self.attention
        return chosen | ({"use_kernels": True} if self.kernels is Kernels.HUB else {})

    def replace(self, name: str, value: Any, reason: str) -> Choices:
        """Return a copy in which one choice has another value, and a reason for it."""
        reasons = {**self.reasons, name: reason}
        return self.model_copy(update={name: value, "reasons": reasons})

    @property
    def environment(self) -> dict[str, str]:
        """Variables to set before the training process starts, unless the user has set them."""
        hub = self.kernels is Kernels.HUB or self.attention == HUB_FLASH_ATTENTION
        return {
            "OMP_NUM_THREADS": str(self.threads),
            "HF_HUB_OFFLINE": "0" if hub else "1",  # model and rows are local, kernels may not be
        }

    def recomputing(self, reason: str) -> Choices:
        """Return the same choices, but with activations computed twice."""
        reasons = {**self.reasons, "gradient_checkpointing": reason}
        return self.model_copy(update={"gradient_checkpointing": True, "reasons": reasons})

    def described(self) -> dict[str, str]:
        """Format the choices for a report: `value: reason` by name."""
        values = {name: getattr(self, name) for name in self.reasons}
        words = {n: ("off", "on")[v] if isinstance(v, bool) else v for n, v in values.items()}
        return {name: f"{words[name]}: {reason}" for name, reason in self.reasons.items()}


def choose(
    training: TrainingConfig,
    machine: Machine,
    has_to_recompute: bool | None,
    planned_seconds: float | None,
) -> Choices:
    """Choose how to train.

    Args:
        training: The configuration.
        machine: Where it will run.
        has_to_recompute: Whether one sequence at a time fits into memory only when activations
            are computed twice; None when not known.
        planned_seconds: Length of the training without compiling; None when not known.

    Returns:
        The choices with their reasons.
    """
    refuse_qlora_elsewhere(training, machine)
    precision, attention = _precision(machine), _attention(machine)
    chosen: dict[str, tuple[Any, str]] = {
        "device": (machine.device, _why_device(machine)),
        "precision": precision,
        "attention": attention,
        "packing": _packing(training, machine, is_flash=attention[0] != "sdpa"),
        "gradient_checkpointing": _recomputation(training, has_to_recompute),
        "kernels": _kernels(machine),
        "head": _head(machine),
        "torch_compile": _compile(training, machine, planned_seconds),
        "threads": _threads(training, machine),
    }
    return Choices(
        visible_gpus=machine.visible_gpus,
        weights_dtype=_weights_dtype(training, machine, precision[0]),
        reasons={name: reason for name, (_, reason) in chosen.items()},
        **{name: value for name, (value, _) in chosen.items()},
    )


def refuse_qlora_elsewhere(training: TrainingConfig, machine: Machine) -> None:
    """Refuse 4-bit training where it cannot run, before anything is loaded.

    Args:
        training: The configuration.
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
    numbers = ",".join(machine.visible_gpus.values()).split(",")
    name = machine.name if len(numbers) == 1 else f"{len(numbers)} x {machine.name}"
    if len(numbers) >= machine.n_devices:
        return name
    which = "GPU" if len(numbers) == 1 else "GPUs"
    return f"{name}, {which} {', '.join(numbers)}: the emptiest of {machine.n_devices}"


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
    """Trained weights stay in fp32, or small updates are rounded away; frozen ones need not."""
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
        return HUB_FLASH_ATTENTION, "the package kernels is installed and downloads it from the hub"
    return "sdpa", "neither flash_attn nor kernels is installed"


def _packing(training: TrainingConfig, machine: Machine, is_flash: bool) -> tuple[Packing, str]:
    if not training.packing:
        return Packing.OFF, "training.packing=false"
    if is_flash:
        return Packing.PADDING_FREE, "flash attention keeps rows apart without a mask"
    if machine.device != "cpu":
        return Packing.PADDING_FREE, "a GPU is faster with one kernel and a mask than row by row"
    return (
        Packing.SHARED_PROMPT,
        "rows attend one by one; what all prompts begin with is computed once",
    )


def _recomputation(training: TrainingConfig, has_to_recompute: bool | None) -> tuple[bool, str]:
    if training.gradient_checkpointing != "auto":
        is_on = training.gradient_checkpointing
        return is_on, f"training.gradient_checkpointing={str(is_on).lower()}"
    if has_to_recompute:
        return True, "without it, not even one sequence fits into memory"
    if has_to_recompute is None:
        return False, "decided by memory once rows and model are prepared"
    return False, "the activations fit into memory"


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
    return Head.OURS, "without Triton, TRL's head takes about a fifth of a step for its statistics"


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
