"""Choose the device that a model runs on, and recognise a full memory."""

from __future__ import annotations

from schemas.config.training import Device

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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a failed allocation, on any device."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in ALLOCATION_FAILURES)
