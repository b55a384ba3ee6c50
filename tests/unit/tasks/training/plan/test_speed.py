from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.config.run import RunConfig
from tasks.training.plan.speed import (
    MEASURED_PARAMETERS,
    estimate_steps,
    expected_speed,
)


def config_of(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": training})


def test_estimate_steps_packed() -> None:
    config = config_of(packing_length_tokens=100, per_device_train_batch_size=2)
    assert estimate_steps(config.training, n_rows=50, n_tokens=950) == (5, 950)


def test_estimate_steps_unpacked_with_accumulation_and_epochs() -> None:
    config = config_of(
        packing=False,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_train_epochs=3,
    )
    assert estimate_steps(config.training, n_rows=40, n_tokens=1000) == (15, 3000)


def test_estimate_steps_max_steps_goes_before_epochs() -> None:
    config = config_of(packing=False, per_device_train_batch_size=4, max_steps=5)
    assert estimate_steps(config.training, n_rows=40, n_tokens=1000) == (5, 500)


def test_expected_speed_scales_with_the_model() -> None:
    rate, origin = expected_speed(RunConfig().training, 2 * MEASURED_PARAMETERS)
    assert rate == 75.0
    assert "estimate" in origin


def test_expected_speed_of_an_earlier_training_here_goes_first(work_folder: Path) -> None:
    folder = work_folder / "stages" / "train_model" / "abc"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text('{"tokens_per_second": 42.5}', encoding="utf-8")
    unfinished = folder.with_name(".tmp-def-1")
    unfinished.mkdir()
    (unfinished / "training.json").write_text('{"tokens_per_second": 1.0}', encoding="utf-8")
    assert expected_speed(RunConfig().training, None)[0] == 42.5


def test_expected_speed_passes_over_trainings_on_another_device(work_folder: Path) -> None:
    folder = work_folder / "stages" / "train_model" / "abc"
    folder.mkdir(parents=True)
    text = '{"tokens_per_second": 42.5, "device": "cpu"}'
    (folder / "training.json").write_text(text, encoding="utf-8")
    training = config_of(method="full").training
    assert expected_speed(training, None, "cpu")[0] == 42.5
    rate, origin = expected_speed(training, None, "cuda")
    assert rate == 100.0
    assert "a GPU is faster" in origin


def test_estimate_steps_counts_every_process() -> None:
    config = config_of(packing=False, processes=2, per_device_train_batch_size=2)
    assert estimate_steps(config.training, n_rows=40, n_tokens=1000) == (10, 1000)


def test_estimate_steps_counts_the_shared_prefix_once_a_sequence() -> None:
    config = config_of(packing_length_tokens=100)
    # Rests: 950 - 50 * 9 = 500 tokens into 100 - 9 = 91 a sequence; 12 is the most that is shared.
    assert estimate_steps(config.training, 50, 950, prefix_tokens=9) == (6, 950)
    assert estimate_steps(config.training, 50, 950, prefix_tokens=40) == (4, 950)
