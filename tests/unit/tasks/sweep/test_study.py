from __future__ import annotations

import inspect
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from flows.cli.sweep import show_sweep
from flows.sweep_training import sweep_training
from schemas.config.file import load_config
from schemas.config.run import RunConfig
from schemas.config.sweep import OneOf, Range, Scalar, SweepConfig
from schemas.config.training import TrainingConfig
from schemas.errors import WorkDirectoryError
from schemas.records.references import QualityReference
from schemas.rule_ids import Verdict
from tasks.sweep._trial import Search, measured_training
from tasks.sweep.results import (
    Outcome,
    SweepReport,
    TrialResult,
    find_best,
    list_trials,
    write_best,
)
from tasks.sweep.study import next_trial, open_study, sweep_fingerprint
from tests.support.evaluations import template_reference

TEMPLATE = template_reference()
QUALITY = QualityReference(
    stage="check_quality",
    folder="stages/check_quality/0",
    sha256="d",
    verdict=Verdict.PASSED,
    n_train_rows=100,
    n_eval_rows=10,
    n_validation_rows=10,
    n_train_tokens=4000,
    n_supervised_tokens=1000,
    eval_sha256="e",
    rules=(),
)
SPACE: dict[str, Any] = {
    "learning_rate": Range(low=1e-5, high=1e-3, is_log=True),
    "lora.r": Range(low=4, high=64),
    "neftune_noise_alpha": OneOf(choices=(None, 5.0)),
}


def make_search(folder: Path, *, trials: int = 20, seed: int = 42) -> Search:
    config = RunConfig.model_validate({"seed": seed, "split": {"validation_fraction": 0.1}})
    sweep = SweepConfig(search=SPACE, trials=trials)
    return Search(config, sweep, TEMPLATE, QUALITY, folder, {})


def draw(search: Search, n_trials: int) -> list[dict[str, Scalar]]:
    """Open the study and make some trials whose loss is their learning rate."""
    drawn = []
    with open_study(search.folder, search.sweep.startup_trials) as study:
        for _ in range(n_trials):
            trial = next_trial(study, search)
            assert trial is not None
            drawn.append(trial.params)
            study.tell(trial, float(trial.params["learning_rate"]))
    return drawn


def result(number: int, outcome: Outcome, loss: float | None) -> TrialResult:
    settings: dict[str, Scalar] = {"learning_rate": 0.001 * (number + 1), "lora.r": 8}
    return TrialResult(
        number=number, outcome=outcome, settings=settings, validation_loss=loss, seconds=1.0
    )


def test_flow_takes_a_config_and_a_sweep() -> None:
    assert sweep_training.name == "sweep-training"
    assert list(inspect.signature(sweep_training.fn).parameters) == ["config", "sweep"]


def test_settings_are_drawn_within_their_bounds(tmp_path: Path) -> None:
    drawn = draw(make_search(tmp_path), 5)
    for settings in drawn:
        assert 1e-5 <= float(settings["learning_rate"] or 0) <= 1e-3
        assert isinstance(settings["lora.r"], int)
        assert 4 <= settings["lora.r"] <= 64
        assert settings["neftune_noise_alpha"] in (None, 5.0)
    assert len({settings["learning_rate"] for settings in drawn}) == 5


def test_interruptions_do_not_change_what_is_drawn(tmp_path: Path) -> None:
    whole = draw(make_search(tmp_path / "whole"), 4)
    parts = [draw(make_search(tmp_path / "parts"), number) for number in (3, 1)]
    assert [settings for part in parts for settings in part] == whole
    assert draw(make_search(tmp_path / "other", seed=7), 1) != whole[:1]


def test_interrupted_trial_is_taken_up_with_its_settings(tmp_path: Path) -> None:
    search = make_search(tmp_path, trials=2)
    draw(search, 1)
    with open_study(tmp_path, 4) as study:
        trial = next_trial(study, search)
        assert trial is not None
        settings = trial.params
    with open_study(tmp_path, 4) as study:
        again = next_trial(study, search)
        assert again is not None
        assert again.number == 1
        assert again.params == settings
        study.tell(again, 1.0)
        assert next_trial(study, search) is None


def test_second_process_may_not_run_the_same_sweep(tmp_path: Path) -> None:
    with (
        open_study(tmp_path, 4),
        pytest.raises(WorkDirectoryError, match="another process"),
        open_study(tmp_path, 4),
    ):
        pass


def test_trials_are_listed_with_how_they_ended(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    search = make_search(tmp_path)
    with open_study(tmp_path, 4) as study:
        for state, value in (
            (TrialState.COMPLETE, 2.5),
            (TrialState.PRUNED, None),
            (TrialState.FAIL, None),
        ):
            trial = next_trial(study, search)
            assert trial is not None
            trial.set_user_attr("validation_losses", {"1": 3.0, "2": 2.75})
            trial.set_user_attr("error", "LossSpike: x" if state is TrialState.FAIL else "")
            study.tell(trial, value, state)
        unfinished = next_trial(study, search)
        assert unfinished is not None
        trials = list_trials(study)
    assert [trial.outcome for trial in trials] == list(Outcome)
    assert [trial.validation_loss for trial in trials] == [2.5, 2.75, 2.75]
    assert trials[2].error == "LossSpike: x"


def test_best_is_the_smallest_of_those_that_were_finished() -> None:
    trials = (
        result(0, Outcome.COMPLETE, 2.0),
        result(1, Outcome.PRUNED, 0.5),
        result(2, Outcome.COMPLETE, 1.5),
        result(3, Outcome.COMPLETE, 1.5),
        result(4, Outcome.FAIL, None),
    )
    assert find_best(trials) == trials[2]
    assert find_best(trials[1:2]) is None


def test_best_configuration_loads_with_the_best_settings(tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {
            "split": {"validation_fraction": 0.1},
            "training": {"lora": {"alpha": 64}, "effective_batch_size": 8},
            "quality": {"length_quantiles": {0.5: [8, None]}},
        }
    )
    path = tmp_path / "best.yaml"
    write_best(config, result(3, Outcome.COMPLETE, 1.25), path)
    expected = config.training.model_copy(
        update={
            "learning_rate": 0.004,
            "lora": config.training.lora.model_copy(update={"r": 8}),
        }
    )
    assert load_config(path) == config.model_copy(update={"training": expected})
    assert path.read_text().startswith("# sft-flow sweep: trial 3, validation loss 1.250000\n")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize(
    ("settings", "eval_steps"),
    [({"max_steps": 80}, 10), ({"max_steps": 3}, 1), ({"packing_length_tokens": 100}, 5)],
)
def test_loss_is_measured_after_each_eighth(settings: dict[str, Any], eval_steps: int) -> None:
    training = TrainingConfig.model_validate(settings)
    assert measured_training(training, QUALITY).eval_steps == eval_steps


def test_configured_measurements_are_kept() -> None:
    training = TrainingConfig(max_steps=80, eval_steps=7)
    assert measured_training(training, QUALITY) == training


def test_number_of_trials_does_not_make_another_sweep() -> None:
    config = RunConfig()
    few = sweep_fingerprint(config, SweepConfig(search=SPACE, trials=2), TEMPLATE, QUALITY)
    longer = SweepConfig(search=SPACE, trials=9, timeout_seconds=60)
    assert sweep_fingerprint(config, longer, TEMPLATE, QUALITY) == few
    other = SweepConfig(search={"lora.r": SPACE["lora.r"]})
    assert sweep_fingerprint(config, other, TEMPLATE, QUALITY) != few
    rows = QUALITY.model_copy(update={"sha256": "f"})
    assert sweep_fingerprint(config, SweepConfig(search=SPACE), TEMPLATE, rows) != few


def make_report(*trials: TrialResult, best: TrialResult | None) -> SweepReport:
    return SweepReport(
        folder=Path("/home/sweeps/0"),
        trials=trials,
        best=best,
        best_config=Path("/home/sweeps/0/best.yaml") if best else None,
        is_timed_out=best is None,
        mlflow_run_id="0",
    )


def test_report_shows_trials_and_best_settings(capsys: pytest.CaptureFixture[str]) -> None:
    best = result(0, Outcome.COMPLETE, 1.5)
    failed = result(1, Outcome.FAIL, None).model_copy(update={"error": "LossSpike: far above"})
    show_sweep(make_report(best, failed, best=best))
    shown = capsys.readouterr().out
    assert "finished (best)" in shown
    assert "LossSpike" in shown
    assert "training:\n  learning_rate: 0.001\n  lora:\n    r: 8\n" in shown
    assert "sft-flow run -c /home/sweeps/0/best.yaml" in shown


def test_report_without_a_best_says_that_time_was_up(capsys: pytest.CaptureFixture[str]) -> None:
    show_sweep(make_report(result(0, Outcome.PRUNED, 2.0), best=None))
    shown = capsys.readouterr().out
    assert "Time was up" in shown
    assert "Best settings" not in shown


def test_report_is_one_json_document() -> None:
    best = result(0, Outcome.COMPLETE, 1.5)
    document = json.loads(json.dumps(make_report(best, best=best).model_dump(mode="json")))
    assert document["best"]["settings"] == {"learning_rate": 0.001, "lora.r": 8}
    assert document["trials"][0]["outcome"] == "finished"


def test_sweep_fingerprint_names_the_content_of_the_accelerate_file(tmp_path: Path) -> None:
    path = tmp_path / "accelerate.yaml"
    config = RunConfig.model_validate({"training": {"accelerate_config": str(path)}})
    found = []
    for text in ("num_processes: 1", "num_processes: 2"):
        path.write_text(text, encoding="utf-8")
        found.append(sweep_fingerprint(config, SweepConfig(search=SPACE), TEMPLATE, QUALITY))
    assert found[0] != found[1]
