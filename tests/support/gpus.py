"""GPUs that are not there, as torch describes them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


def pretend_gpus(
    monkeypatch: pytest.MonkeyPatch,
    free_bytes: Sequence[int],
    capabilities: Sequence[tuple[int, int]] = (),
) -> None:
    """Let torch find CUDA GPUs.

    Args:
        monkeypatch: Of the test.
        free_bytes: Free memory of each.
        capabilities: Compute capability of each; all 9.0 without.
    """
    import torch

    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    found = capabilities or [(9, 0)] * len(free_bytes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free_bytes))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free_bytes[index], 2**37))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {found[index][0]}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: found[index])
