"""Which device a model runs on, and in which number format."""

from __future__ import annotations

from schemas.training_config import Device


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


def has_bfloat16_units(device: str) -> bool:
    """Tell whether bf16 arithmetic is done in hardware.

    Args:
        device: A torch device name.

    Returns:
        True only on GPUs that compute in bf16; CPUs mostly emulate it, five times slower here.
    """
    import torch

    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
