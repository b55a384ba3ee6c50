"""Which errors mean that memory ran out."""

from __future__ import annotations

from tasks.models.device import is_out_of_memory


def test_memory_that_ran_out_is_told_from_other_faults() -> None:
    import torch

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
