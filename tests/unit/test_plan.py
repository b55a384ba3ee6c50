from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flows._plan as plan
import flows._show as show
from schemas.records import DatasetReference, QualityReference
from schemas.rules import Verdict
from schemas.run_config import RunConfig
from schemas.stages import Stage
from tasks._cache import Lookup
from tasks._keys import StageKey
from tasks._training_speed import MEASURED_PARAMETERS, tokens_per_second


def config_of(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": training})


def test_estimate_steps_packed() -> None:
    config = config_of(packing_length_tokens=100, per_device_train_batch_size=2)
    assert plan.estimate_steps(config, n_rows=50, n_tokens=950) == (5, 950)


def test_estimate_steps_unpacked_with_accumulation_and_epochs() -> None:
    config = config_of(
        packing=False,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_train_epochs=3,
    )
    assert plan.estimate_steps(config, n_rows=40, n_tokens=1000) == (15, 3000)


def test_estimate_steps_max_steps_goes_before_epochs() -> None:
    config = config_of(packing=False, per_device_train_batch_size=4, max_steps=5)
    assert plan.estimate_steps(config, n_rows=40, n_tokens=1000) == (5, 500)


def test_tokens_per_second_scales_with_the_model() -> None:
    rate, origin = tokens_per_second(RunConfig(), 2 * MEASURED_PARAMETERS)
    assert rate == 75.0
    assert "estimate" in origin


def test_tokens_per_second_of_an_earlier_training_here_goes_first(work_folder: Path) -> None:
    folder = work_folder / "stages" / "train_model" / "abc"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text('{"tokens_per_second": 42.5}', encoding="utf-8")
    assert tokens_per_second(RunConfig(), None)[0] == 42.5


def hit(reference: Any) -> Lookup:
    return Lookup(StageKey(reference.stage, {}), reference, "unchanged", 1)


def dataset(work_folder: Path) -> DatasetReference:
    folder = work_folder / "stages" / "load_dataset" / "a"
    folder.mkdir(parents=True)
    row = {"messages": [{"role": "user", "content": "x" * 396}]}
    line = json.dumps({"file": "a", "line": 1, "row": row}) + "\n"
    (folder / "rows.jsonl").write_text(line * 10, encoding="utf-8")
    return DatasetReference(
        stage="load_dataset", folder="stages/load_dataset/a", sha256="0", source="a", n_rows=10
    )


def test_estimate_training_from_characters_when_only_rows_are_known(work_folder: Path) -> None:
    found = plan.estimate_training(RunConfig(), [hit(dataset(work_folder))])
    assert found is not None
    assert (found.n_train_rows, found.n_train_tokens) == (9, 900)
    assert "guessed" in found.basis


def test_estimate_training_from_counted_tokens_when_they_are_known(work_folder: Path) -> None:
    quality = QualityReference(
        stage="check_quality",
        folder="b",
        sha256="0",
        verdict=Verdict.PASSED,
        n_train_rows=7,
        n_eval_rows=2,
        n_train_tokens=1500,
        n_supervised_tokens=700,
        eval_sha256="0",
        rules=(),
    )
    found = plan.estimate_training(RunConfig(), [hit(dataset(work_folder)), hit(quality)])
    assert found is not None
    assert (found.n_train_rows, found.n_train_tokens, found.seconds) == (7, 1500, 10.0)


def test_estimate_training_is_unknown_before_anything_was_loaded() -> None:
    assert plan.estimate_training(RunConfig(), []) is None


def test_show_plan_without_work_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    entry = plan.PlannedStage(stage=Stage.DECIDE, outcome="HIT", reason="verified 2 files")
    show.show_plan(plan.PlanReport(stages=(entry,), estimate=None))
    assert "Nothing to do" in capsys.readouterr().out
