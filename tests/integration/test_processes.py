"""Two training processes do what one does: same tokens, same loss, one result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
