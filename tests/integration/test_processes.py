"""Two training processes do what one does: same tokens, same loss, one result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tasks.engine.home import SPIN_VARIABLES
from tasks.training._failures import log_path
from tasks.training.launch import run_training
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingFacts, TrainingSpec
from tests.support.toy import toy_spec

pytestmark = [pytest.mark.integration, pytest.mark.real_processes]

STEPS = {"max_steps": 12, "save_steps": 6, "effective_batch_size": 4}


def losses(spec: TrainingSpec) -> list[float]:
    history = json.loads((spec.output / "history.json").read_text())
    return [entry["loss"] for entry in history]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSpec, TrainingFacts]:
    spec = toy_spec(tmp_path_factory.mktemp("alone"), "alone", **STEPS)
    return spec, run_training(spec, lambda event: None)


def test_two_processes_train_like_one(
    tmp_path: Path, alone: tuple[TrainingSpec, TrainingFacts]
) -> None:
    spec = toy_spec(tmp_path, "two", processes=2, **STEPS)
    events: list[TrainingEvent] = []
    facts = run_training(spec, events.append)
    assert facts.batching.processes == 2
    assert facts.batching.effective == alone[1].batching.effective == 4
    assert facts.n_steps == alone[1].n_steps == 12
    assert facts.n_tokens_seen == alone[1].n_tokens_seen
    assert losses(spec) == pytest.approx(losses(alone[0]), rel=1e-4)
    assert [event.step for event in events if event.kind is EventKind.STEP] == list(range(1, 13))
    assert [event.step for event in events if event.kind is EventKind.SAVED] == [6, 12]


def test_two_processes_resume(tmp_path: Path, alone: tuple[TrainingSpec, TrainingFacts]) -> None:
    spec = toy_spec(tmp_path, "two", processes=2, **STEPS)

    def listen(event: TrainingEvent) -> None:
        if event.step == 7:
            raise EOFError("nobody listens any more")

    with pytest.raises(EOFError):
        run_training(spec, listen)
    facts = run_training(spec, lambda event: None)
    assert facts.resumed_from_step >= 7
    assert losses(spec) == pytest.approx(losses(alone[0]), rel=1e-4)


def test_accelerate_config_of_the_user_is_taken(tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 1\n"
        "num_processes: 2\nmain_process_port: 0\nmixed_precision: 'no'\nuse_cpu: false\n"
    )
    spec = toy_spec(tmp_path, "two", processes=2, **STEPS)
    training = spec.training.model_copy(update={"accelerate_config": str(config), "processes": 1})
    facts = run_training(spec.model_copy(update={"training": training}), lambda event: None)
    assert facts.n_steps == 12


def measured(spec: TrainingSpec) -> list[tuple[int, float]]:
    history = json.loads((spec.output / "history.json").read_text())
    return [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]


@pytest.mark.parametrize(("is_packed", "per_device"), [(False, 1), (False, 2), (True, 1)])
def test_no_validation_row_counts_twice(tmp_path: Path, is_packed: bool, per_device: int) -> None:
    settings = {
        "max_steps": 4,
        "eval_steps": 2,
        "packing": is_packed,
        "per_device_train_batch_size": per_device,
    }
    found = {}
    for n_processes in (1, 2):
        spec = toy_spec(
            tmp_path,
            f"of-{n_processes}",
            processes=n_processes,
            effective_batch_size=2 * per_device,
            **settings,
        )
        rows = parquet.read_table(spec.train_tokens).to_pylist()[:3]
        rows[0]["labels"] = [-100, *rows[0]["input_ids"][1:]]  # repeated, it would change the mean
        path = tmp_path / "validation.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        spec = spec.model_copy(update={"validation_tokens": path})
        run_training(spec, lambda event: None)
        found[n_processes] = dict(measured(spec))
    assert found[1].keys() == found[2].keys() == {0, 2, 4}
    assert found[2][0] == pytest.approx(found[1][0], rel=1e-6)
    assert found[2] == pytest.approx(found[1], rel=1e-4)


IS_READ = "GOMP_SPINCOUNT = '1000'"
libgomp = pytest.mark.skipif(sys.platform != "linux", reason="torch comes with libgomp on Linux")


@pytest.fixture
def gomp_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let libgomp write its settings as it is loaded, and the product choose them."""
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    for name in SPIN_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@libgomp
@pytest.mark.usefixtures("gomp_tells")
@pytest.mark.parametrize(
    "module", ["flows.cli.main", "flows.train_sft", "tasks.release.reload.run"]
)
def test_threads_spin_briefly_in_processes_that_compute(module: str) -> None:
    code = f"import {module}; import torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert IS_READ in done.stderr


@libgomp
@pytest.mark.usefixtures("gomp_tells")
def test_threads_spin_briefly_in_the_training_process(tmp_path: Path) -> None:
    spec = toy_spec(tmp_path, "one", max_steps=1)
    run_training(spec, lambda event: None)
    assert IS_READ in log_path(spec).read_text(encoding="utf-8")


def test_the_training_process_imports_neither_prefect_nor_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    spec = toy_spec(tmp_path, "one", max_steps=1)
    run_training(spec, lambda event: None)
    lines = log_path(spec).read_text(encoding="utf-8").splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert "trl" in imported
    assert not {"prefect", "mlflow"} & imported
