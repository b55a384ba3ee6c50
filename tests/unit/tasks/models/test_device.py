"""Which GPU is used, how memory is freed, and which errors mean that it ran out."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from schemas.config.training import Device
from tasks.models.device import (
    choose_device,
    emptiest_gpus,
    gpu_variable,
    is_out_of_memory,
    released_memory,
    use_emptiest_gpu,
)
from tests.support.gpus import pretend_gpus


def test_memory_that_ran_out_is_told_from_other_faults() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "device"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_device_is_the_one_that_is_wanted_or_the_best_there_is(
    monkeypatch: pytest.MonkeyPatch, has_cuda: bool, has_mps: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert choose_device(Device.AUTO) == device
    assert choose_device(Device.MPS) == "mps"


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (None, ["1", "2", "0"]),
        ("4,6,7", ["6", "7", "4"]),
        ("GPU-a, GPU-b ,GPU-c", ["GPU-b", "GPU-c", "GPU-a"]),
    ],
)
def test_gpus_have_the_names_of_the_users_list_the_emptiest_first(
    monkeypatch: pytest.MonkeyPatch, listed: str | None, names: list[str]
) -> None:
    pretend_gpus(monkeypatch, [10, 30, 20])
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    found = emptiest_gpus()
    assert [gpu.name for gpu in found] == names
    assert [(gpu.index, gpu.free_bytes) for gpu in found] == [(1, 30), (2, 20), (0, 10)]


def test_a_gpu_that_others_have_filled_counts_as_full(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, [10, 20])

    def ask(index: int) -> tuple[int, int]:
        if index == 0:
            raise RuntimeError("CUDA error: out of memory")
        return 20, 2**37

    monkeypatch.setattr(torch.cuda, "mem_get_info", ask)
    assert [(gpu.index, gpu.free_bytes) for gpu in emptiest_gpus()] == [(1, 20), (0, 0)]


def test_of_equally_empty_gpus_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, [20, 20, 20])
    assert [gpu.index for gpu in emptiest_gpus()] == [0, 1, 2]


def test_rocm_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, [1])
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "3")
    assert gpu_variable() == "CUDA_VISIBLE_DEVICES"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert gpu_variable() == "HIP_VISIBLE_DEVICES"
    monkeypatch.delenv("HIP_VISIBLE_DEVICES")
    assert gpu_variable() == "CUDA_VISIBLE_DEVICES"  # HIP reads it where its own is not set


def test_an_evaluation_uses_the_emptiest_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    pretend_gpus(monkeypatch, [10])
    use_emptiest_gpu()
    assert used == []
    pretend_gpus(monkeypatch, [10, 30])
    use_emptiest_gpu()
    assert used == [1]


class Model:
    """Stands for weights; in a circle, as models with hooks are."""

    def __init__(self) -> None:
        self.itself = self


def compute(kept: list[weakref.ref[Model]], fault: str = "") -> int:
    model = Model()
    kept.append(weakref.ref(model))
    if fault:
        try:
            raise ValueError(fault)
        except ValueError as error:
            raise RuntimeError("CUDA out of memory") from error
    return 7


@pytest.mark.parametrize("fault", ["", "too large"])
def test_released_memory_is_freed_after_the_model_whatever_ends_the_block(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    kept: list[weakref.ref[Model]] = []
    alive: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(kept[0]() is not None))
    gc.disable()  # what is freed is freed by the block
    try:
        if fault:
            with pytest.raises(RuntimeError, match="out of memory") as caught, released_memory():
                compute(kept, fault)
            assert caught.value.__traceback__ is not None
        else:
            with released_memory():
                assert compute(kept) == 7
    finally:
        gc.enable()
    assert alive == [False]
