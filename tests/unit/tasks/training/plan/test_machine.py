from __future__ import annotations

import os
from pathlib import Path

import pytest

import tasks.engine.process_limits as limits
import tasks.training.plan.machine as machines
from schemas.config.training import Device
from schemas.errors import ConfigError
from tests.support.gpus import pretend_gpus


def test_examine_machine_finds_a_processor_with_memory() -> None:
    found = machines.examine_machine(Device.CPU)
    assert found.device == "cpu"
    assert found.free_memory_bytes > 2**20
    assert 1 <= found.physical_cores <= (os.cpu_count() or 1)


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no cuda device") as caught:
        machines.examine_machine(Device.CUDA)
    assert caught.value.where == "training.device"
    assert "auto" in caught.value.fix


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells the affinity")
def test_count_physical_cores_takes_hyper_threads_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings, encoding="utf-8")
    monkeypatch.setattr(limits, "processor_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert machines.count_physical_cores(tmp_path) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    assert machines.count_physical_cores(tmp_path) == 1


@pytest.mark.parametrize(("quota", "n_cores"), [(1.5, 1), (0.5, 1), (64.0, 3), (None, 3)])
def test_count_physical_cores_keeps_to_the_containers_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: float | None, n_cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(limits, "processor_quota", lambda: quota)
    assert machines.count_physical_cores(tmp_path) == n_cores


@pytest.mark.parametrize(
    ("flags", "has_units"), [("fma avx512_bf16 sse", True), ("amx_bf16", True), ("avx2", False)]
)
def test_bf16_units_are_read_off_the_processors_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, has_units: bool
) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\n", encoding="utf-8")
    monkeypatch.setattr(machines, "PROCESSOR_FACTS", facts)
    assert machines.examine_machine(Device.CPU).has_bf16_units is has_units


def test_memory_is_what_the_container_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "available_memory_bytes", lambda: 12345)
    assert machines.examine_machine(Device.CPU).free_memory_bytes == 12345


def test_a_package_counts_only_in_the_versions_that_are_taken() -> None:
    assert machines._is_installed("psutil")
    assert machines._is_installed("psutil", "psutil", "1.0")
    assert not machines._is_installed("psutil", "psutil", "1.0", "1.1")
    assert not machines._is_installed("psutil", "psutil", "999")
    assert not machines._is_installed("no_such_package_here")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three GPUs, the first one older and nearly full."""
    pretend_gpus(monkeypatch, [10, 30, 20], [(7, 5), (8, 0), (9, 0)])
    monkeypatch.setattr(machines, "GPU_NODES", ("null",))  # a device file that Linux has


@pytest.mark.usefixtures("gpus")
def test_one_process_gets_the_emptiest_gpu_and_is_planned_by_it() -> None:
    found = machines.examine_machine(Device.AUTO)
    assert (found.device, found.name, found.n_devices) == ("cuda", "GPU 8", 3)
    assert found.visible_gpus == {"CUDA_VISIBLE_DEVICES": "1"}
    assert (found.free_memory_bytes, found.has_bf16_units) == (30, True)


@pytest.mark.usefixtures("gpus")
def test_several_processes_get_as_many_of_the_users_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3,7")
    two = machines.examine_machine(Device.CUDA, 2)
    assert two.visible_gpus == {"CUDA_VISIBLE_DEVICES": "3,7"}
    assert (two.free_memory_bytes, two.has_bf16_units) == (20, True)
    three = machines.examine_machine(Device.CUDA, 3)
    assert three.visible_gpus == {"CUDA_VISIBLE_DEVICES": "3,7,5"}
    assert (three.free_memory_bytes, three.has_bf16_units) == (10, False)  # what all can do
    assert machines.examine_machine(Device.CUDA, 9).visible_gpus == three.visible_gpus
