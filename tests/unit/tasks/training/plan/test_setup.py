from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest

from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError, MemoryExhausted
from tasks.training.plan.machine import Machine
from tasks.training.plan.setup import (
    TrainingSetup,
    Workload,
    available_bytes,
    prepare_training,
    read_workload,
)
from tests.support.trainings import SMOLLM_SHAPE

pytestmark = pytest.mark.usefixtures("work_folder")

WORK = Workload(n_rows=100, n_tokens=10_000, longest_row_tokens=300)


def processor(gibibytes: float) -> Machine:
    return Machine(device="cpu", free_memory_bytes=round(gibibytes * 2**30))


def prepared(machine: Machine, **settings: Any) -> TrainingSetup:
    return prepare_training(TrainingConfig.model_validate(settings), machine, SMOLLM_SHAPE, WORK)


def batch_of(setup: TrainingSetup) -> tuple[int, int]:
    return setup.batching.per_device, setup.batching.accumulation


AUTO = {"per_device_train_batch_size": "auto", "effective_batch_size": 64}


def test_auto_on_a_processor_stops_at_4096_tokens_a_pass() -> None:
    assert batch_of(prepared(processor(500), **AUTO)) == (8, 8)


def test_auto_on_a_gpu_fills_its_memory() -> None:
    machine = Machine(device="cuda", free_memory_bytes=2**38, has_bf16_units=True, has_triton=True)
    assert batch_of(prepared(machine, **AUTO)) == (64, 1)


def test_auto_takes_less_where_memory_is_short() -> None:
    setup = prepared(processor(5), **AUTO)
    assert 1 <= batch_of(setup)[0] < 8
    assert setup.memory is not None
    assert setup.memory.has_room
    assert setup.notes == ()


def test_activations_are_recomputed_only_when_one_sequence_does_not_fit() -> None:
    assert not prepared(processor(8)).choices.gradient_checkpointing
    assert prepared(processor(2.8)).choices.gradient_checkpointing


def test_a_batch_that_does_not_fit_is_divided_with_a_note() -> None:
    setup = prepared(processor(8), per_device_train_batch_size=32)
    per_device, accumulation = batch_of(setup)
    assert per_device < 32
    assert per_device * accumulation == 32
    assert "effective batch stays 32" in setup.notes[0]


def test_a_training_that_cannot_fit_is_refused_with_numbers() -> None:
    with pytest.raises(MemoryExhausted, match="even 512 tokens") as caught:
        prepared(processor(2), method="full")
    assert "training.method=lora" in caught.value.fix
    assert "1.80 GiB" in caught.value.expected


def test_processes_on_a_processor_share_its_memory() -> None:
    two = TrainingConfig(processes=2)
    assert available_bytes(two, processor(10)) == round(0.9 * 5 * 2**30)
    gpu = Machine(device="cuda", free_memory_bytes=10 * 2**30, n_devices=2)
    assert available_bytes(two, gpu) == round(0.9 * 10 * 2**30)


def test_more_processes_than_gpus_are_refused() -> None:
    machine = Machine(device="cuda", free_memory_bytes=2**35, n_devices=2)
    with pytest.raises(ConfigError, match="more training processes") as caught:
        prepared(machine, processes=3)
    assert caught.value.got == "3"


def test_without_a_known_model_the_batch_is_as_set() -> None:
    fixed = TrainingConfig(per_device_train_batch_size=4)
    setup = prepare_training(fixed, processor(8), None, WORK)
    assert (batch_of(setup), setup.memory) == ((4, 1), None)
    unknown = prepare_training(
        TrainingConfig.model_validate(AUTO), processor(8), SMOLLM_SHAPE, None
    )
    assert (batch_of(unknown), unknown.memory) == ((1, 64), None)
    assert "not known" in unknown.notes[0]
    assert "decided by memory" in unknown.choices.reasons["gradient_checkpointing"]


def test_a_long_training_is_compiled() -> None:
    long = Workload(n_rows=10_000, n_tokens=10_000_000, longest_row_tokens=300)
    setup = prepare_training(TrainingConfig(), processor(8), SMOLLM_SHAPE, long)
    assert setup.choices.torch_compile
    assert not prepared(processor(8)).choices.torch_compile


def test_setup_survives_json() -> None:
    setup = prepared(processor(8))
    assert TrainingSetup.model_validate_json(setup.model_dump_json()) == setup


def test_read_workload_measures_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"input_ids": [[1, 2, 3], [4]]}), path)
    assert read_workload(path) == Workload(n_rows=2, n_tokens=4, longest_row_tokens=3)


def test_read_workload_counts_rows_as_often_as_their_weight_says(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    rows = [{"input_ids": [1] * 10, "weight": 3.0}, {"input_ids": [1] * 4, "weight": 0.5}] * 2
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = read_workload(tmp_path / "rows.parquet")
    assert (found.n_rows, found.n_tokens, found.longest_row_tokens) == (7, 64, 10)


def test_read_workload_measures_what_all_rows_begin_with(tmp_path: Path) -> None:
    rows = [
        {"input_ids": [7, 8, 9, 1], "labels": [-100, -100, -100, 1]},
        {"input_ids": [7, 8, 5, 2], "labels": [-100, -100, -100, 2]},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read_workload(tmp_path / "rows.parquet").prefix_tokens == 2
