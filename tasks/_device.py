"""Which device a model runs on."""

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
