"""Which device a model runs on."""

from __future__ import annotations

from schemas.config.training import Device

ALLOCATION_FAILURES = ("out of memory", "can't allocate memory", "not enough memory")
"""A CPU that has no memory left makes torch raise a plain RuntimeError."""


def choose_device(wish: Device) -> str:
    """Pick a device that is there.

    Args:
        wish: auto takes cuda, then mps, then cpu; anything else is taken at its word.

    Returns:
        A torch device name.
    """
    import torch

    if wish is not Device.AUTO:
        return wish.value
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, on any device.

    Args:
        error: What was raised.

    Returns:
        True for a failed allocation.
    """
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in ALLOCATION_FAILURES)
