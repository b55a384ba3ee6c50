"""What matters of a machine for training; every choice takes this record, so tests can make one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import Field

from schemas.base import Record
from schemas.config.training import Device
from schemas.errors import ConfigError
from tasks.engine.process_limits import (
    allowed_processors,
    available_memory_bytes,
    count_processors,
)
from tasks.models.device import emptiest_gpus, gpu_variable

PROCESSOR_FACTS = Path("/proc/cpuinfo")
PROCESSOR_TOPOLOGY = Path("/sys/devices/system/cpu")
GPU_NODES = ("nvidia0", "nvidiactl", "kfd", "dxg")
"""Device files of CUDA, of ROCm and of CUDA under WSL; without one, torch is not imported."""
KERNELS_VERSIONS = ("0.16.0", "0.17.0")
"""From, and below: the versions that transformers 5.17 accepts (utils/import_utils.py)."""
FLASH_ATTENTION_VERSION = "2.3.3"
"""The oldest version that transformers 5.17 accepts."""


class Machine(Record):
    """Where training would run."""

    device: str
    """cpu, cuda or mps."""
    name: str = ""
    """Of the GPU."""
    n_devices: int = 1
    """Devices that this process may use; a training uses one for each of its processes."""
    visible_gpus: dict[str, str] = Field(default_factory=dict)
    """The variable that shows a training its GPUs only, and its value; empty without CUDA."""
    free_memory_bytes: int
    """Per device of the training; for a CPU what is available to all its processes together."""
    physical_cores: int = 1
    """Without hyper-threads, and only those this process may use."""
    has_bf16_units: bool = False
    """bf16 is computed in hardware, not emulated."""
    has_fp16_units: bool = False
    has_flash_attention: bool = False
    """The package flash_attn is installed and the GPU can run it (Ampere or newer)."""
    has_hub_kernels: bool = False
    """The package kernels is installed and may download compiled ones from the hub."""
    has_liger: bool = False
    has_bitsandbytes: bool = False
    has_triton: bool = False
    """For GPUs only: TRL's fused head runs Triton nowhere else."""


def examine_machine(wish: Device, n_processes: int = 1) -> Machine:
    """Examine the device that training would use; of several GPUs those with most free memory.

    Args:
        wish: auto takes cuda, then mps, then cpu.
        n_processes: Training processes; each uses one GPU.

    Returns:
        Its memory, cores, number formats and installed packages.

    Raises:
        ConfigError: The requested device is not present.
    """
    may_have_gpu = sys.platform != "linux" or any(Path("/dev", name).exists() for name in GPU_NODES)
    if wish is Device.CPU or (wish is Device.AUTO and not may_have_gpu):
        return _examine_processor()
    import torch

    if wish is not Device.MPS and torch.cuda.is_available():
        return _examine_cuda(n_processes)
    if wish is not Device.CUDA and torch.backends.mps.is_available():
        return _examine_mps()
    if wish is Device.AUTO:
        return _examine_processor()
    raise ConfigError(
        f"there is no {wish} device on this machine",
        where="training.device",
        expected="a device that torch can use",
        got=f"{wish}, but torch {torch.__version__} finds none",
        fix="set training.device=auto, or install the driver and a torch build for this GPU",
    )


def _examine_processor() -> Machine:
    flags = _processor_flags()
    return Machine(
        device="cpu",
        free_memory_bytes=_free_memory_bytes(),
        physical_cores=count_physical_cores(),
        has_bf16_units=bool(flags & {"avx512_bf16", "amx_bf16", "bf16"}),
        has_fp16_units=bool(flags & {"amx_fp16"}),
        has_bitsandbytes=_is_installed("bitsandbytes"),
    )


def _examine_cuda(n_processes: int) -> Machine:
    """Describe the emptiest GPUs, one for each process, by what all of them can do."""
    import torch

    gpus = emptiest_gpus()
    chosen = gpus[:n_processes]
    capability = min(torch.cuda.get_device_capability(gpu.index) for gpu in chosen)
    has_bf16_units = bool(torch.version.hip) or capability >= (8, 0)
    return Machine(
        device="cuda",
        name=torch.cuda.get_device_name(chosen[0].index),
        n_devices=len(gpus),
        visible_gpus={gpu_variable(): ",".join(gpu.name for gpu in chosen)},
        free_memory_bytes=min(gpu.free_bytes for gpu in chosen),
        physical_cores=count_physical_cores(),
        has_bf16_units=has_bf16_units,
        has_fp16_units=capability >= (7, 0),
        # FlashAttention 2 needs Ampere, which is also the first with bf16 units.
        has_flash_attention=has_bf16_units
        and _is_installed("flash_attn", "flash-attn", at_least=FLASH_ATTENTION_VERSION),
        has_hub_kernels=_is_installed("kernels", "kernels", *KERNELS_VERSIONS)
        and not _is_offline(),
        has_liger=_is_installed("liger_kernel"),
        has_bitsandbytes=_is_installed("bitsandbytes"),
        has_triton=_is_installed("triton"),
    )


def _examine_mps() -> Machine:
    import torch

    free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return Machine(
        device="mps",
        name="Apple GPU",
        free_memory_bytes=max(0, min(free, _free_memory_bytes())),
        physical_cores=count_physical_cores(),
    )


def count_physical_cores(topology: Path = PROCESSOR_TOPOLOGY) -> int:
    """Count the cores that affinity mask and container quota allow; two hyper-threads are one."""
    import psutil

    if numbers := allowed_processors():
        cores = len({_core_of(topology, number) for number in numbers})
    else:
        cores = psutil.cpu_count(logical=False) or 1
    return min(cores, count_processors())


def _core_of(topology: Path, number: int) -> str:
    """Return the core of a logical processor; one without a description is its own core."""
    try:
        return (topology / f"cpu{number}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return f"cpu{number}"


def _processor_flags() -> set[str]:
    """Read the instruction sets; torch 2.9 has no public function for them."""
    try:
        lines = PROCESSOR_FACTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    names = ("flags", "Features")  # x86 and ARM
    return next(
        (set(line.split(":")[1].split()) for line in lines if line.startswith(names)), set()
    )


def _free_memory_bytes() -> int:
    import psutil

    available = int(psutil.virtual_memory().available)
    allowed = available_memory_bytes()
    return available if allowed is None else min(available, allowed)


def _is_installed(module: str, package: str = "", at_least: str = "", below: str = "") -> bool:
    """Look for a package without importing it."""
    if importlib.util.find_spec(module) is None:
        return False
    if not at_least:
        return True
    try:
        version = Version(importlib.metadata.version(package))
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return False
    return version >= Version(at_least) and (not below or version < Version(below))


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
