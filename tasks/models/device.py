"""Choose the device that a model runs on, free its memory, and recognise a full one."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from schemas.config.training import Device

CUDA_VARIABLE, HIP_VARIABLE = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
ROCR_VARIABLE = "ROCR_VISIBLE_DEVICES"
"""Of ROCm, below HIP's: HIP numbers what this one leaves."""
ALLOCATION_FAILURES = ("out of memory", "can't allocate memory", "not enough memory")
"""On a CPU without free memory torch raises a plain RuntimeError."""


def choose_device(wish: Device) -> str:
    """Return a torch device name; auto takes cuda, then mps, then cpu."""
    import torch

    if wish is not Device.AUTO:
        return wish.value
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use."""

    index: int
    """Its number in torch."""
    name: str
    """Its entry in the variable that lists visible GPUs: a number of the machine, or a UUID."""
    free_bytes: int


def gpu_variable() -> str:
    """Return the environment variable that lists the GPUs visible to a process."""
    import torch

    has_hip = bool({HIP_VARIABLE, ROCR_VARIABLE} & os.environ.keys())
    return HIP_VARIABLE if torch.version.hip and has_hip else CUDA_VARIABLE


def emptiest_gpus() -> list[Gpu]:
    """List the GPUs that the user lets this process use, those with most free memory first."""
    import torch

    n_visible = torch.cuda.device_count()
    listed = os.environ.get(gpu_variable())
    names = [str(index) for index in range(n_visible)] if listed is None else listed.split(",")
    found = [
        Gpu(index, name.strip(), free_bytes(index))
        for index, name in zip(range(n_visible), names, strict=False)
    ]
    return sorted(found, key=lambda gpu: -gpu.free_bytes)


def free_bytes(index: int) -> int:
    """Return the free memory of a GPU; 0 if it cannot be asked, as one that others have filled."""
    import torch

    try:
        return int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        return 0


def use_emptiest_gpu() -> None:
    """Let `cuda` mean the GPU with most free memory in this thread."""
    import torch

    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(emptiest_gpus()[0].index)


@contextmanager
def released_memory() -> Iterator[None]:
    """Free what the block leaves in the device's memory, whatever ends it.

    Torch keeps freed memory for itself, and an error keeps the variables of the functions it has
    passed, with the model among them.

    Yields:
        Nothing.
    """
    import torch

    try:
        yield
    except BaseException as error:
        _clear_frames(error)
        raise
    finally:
        gc.collect()
        torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()


def _clear_frames(error: BaseException | None) -> None:
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a failed allocation, on any device."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in ALLOCATION_FAILURES)
