"""Which errors mean that memory ran out."""

from __future__ import annotations

ALLOCATION_FAILURES = ("out of memory", "can't allocate memory", "not enough memory")
"""A CPU that has no memory left makes torch raise a plain RuntimeError."""


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
