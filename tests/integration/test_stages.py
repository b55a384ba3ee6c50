"""For every stage: the cache tells the truth, and retries know why."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

import tasks.engine._code_hash
import tasks.engine.stage
from flows.train_sft import train_sft
from schemas.errors import DataRejected, ServiceUnreachable
from schemas.records.decision import Decision
from schemas.records.references import StageReference
from schemas.records.stages import Stage
from schemas.rule_ids import RowRule, RuleSetting, Severity
from tasks.engine.cache import OutputFolder, look_up
from tasks.engine.keys import last_key_path, stage_key
from tasks.engine.stage import look_ahead, retried_task
from tests.integration.conftest import ToyRun, record_calls
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration

CHANGED_SETTING: dict[Stage, tuple[str, Any]] = {
    Stage.LOAD_DATASET: ("source", {"columns": {"completion": "topic"}}),
    Stage.CHECK_SCHEMA: (
        "rules",
        {RowRule.CONTENT_EMPTY: RuleSetting(severity=Severity.WARN)},
    ),
    Stage.SPLIT_DATASET: ("split", {"eval_fraction": 0.3}),
    Stage.PREPARE_TEMPLATE: ("template", {"kind": "chatml"}),
    Stage.CHECK_QUALITY: ("quality", {"max_length_tokens": 128}),
    Stage.GENERATE_BASELINE: ("evaluation", {"max_new_tokens": 9}),
    Stage.TRAIN_MODEL: ("training", {"learning_rate": 0.02}),
    Stage.EVALUATE_MODEL: ("evaluation", {"max_new_tokens": 9}),
    Stage.EVALUATE_CHAMPION: ("evaluation", {"max_new_tokens": 9}),
    Stage.DECIDE: ("gates", {"confidence": 0.9}),
    Stage.REGISTER_MODEL: ("config", {"seed": 7}),
    Stage.PROMOTE_MODEL: ("registry", {"alias": "candidate"}),
    Stage.PUBLISH_REPORT: ("config", {"seed": 7}),
}
"""For each stage: one setting it reads, and another value for it."""


def call(stage: Stage, arguments: dict[str, Any]) -> Any:
    """Run one stage in a flow of its own and return its final state."""
    task = getattr(importlib.import_module(f"tasks.{stage.value}"), stage.value)

    @flow(name="one-stage")
    def one_stage() -> Any:
        state = task(**arguments, return_state=True)
        seen.append(state)
        return state

    seen: list[Any] = []
    one_stage(return_state=True)
    return seen[0]


def reason_for(stage: Stage, toy_run: ToyRun, change: dict[str, Any]) -> str:
    """Look the stage up with one argument changed and return what the cache says."""
    definition, arguments = record_calls(toy_run.config)[stage.value]
    # The reason compares with the last key, which other runs in this work directory replaced.
    parts = stage_key(definition, arguments).parts
    last_key_path(stage.value).write_text(json.dumps(parts), encoding="utf-8")
    found = look_up(definition, stage_key(definition, arguments | change))
    assert found.reference is None
    return found.reason


@pytest.mark.parametrize("stage", list(Stage))
def test_stage_hits_when_nothing_changed(stage: Stage, toy_run: ToyRun) -> None:
    definition, arguments = record_calls(toy_run.config)[stage.value]
    assert look_up(definition, stage_key(definition, arguments)).reference is not None
    assert call(stage, arguments).name == "Cached"


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.LOAD_DATASET])
def test_stage_misses_when_its_input_changed(stage: Stage, toy_run: ToyRun) -> None:
    _, arguments = record_calls(toy_run.config)[stage.value]
    if stage is Stage.PREPARE_TEMPLATE:
        other = make_toy_model(toy_run.home.parent / "other-model", seed=1)
        model = arguments["model"].model_copy(update={"source": str(other)})
        assert "source content" in reason_for(stage, toy_run, {"model": model})
        return
    name, value = next(
        (name, value)
        for name, value in arguments.items()
        if isinstance(value, StageReference) or hasattr(value, "trained")
    )
    if isinstance(value, StageReference):
        changed: Any = value.model_copy(update={"sha256": "0" * 64})
    else:
        trained = value.trained.model_copy(update={"sha256": "0" * 64})
        changed = value.model_copy(update={"trained": trained})
    assert f"input {name}" in reason_for(stage, toy_run, {name: changed})


def test_load_dataset_misses_when_the_file_changed(toy_run: ToyRun, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "rows.jsonl", toy_rows(5))
    _, arguments = record_calls(toy_run.config)["load_dataset"]
    source = arguments["source"].model_copy(update={"source": str(other)})
    assert "source content" in reason_for(Stage.LOAD_DATASET, toy_run, {"source": source})


@pytest.mark.parametrize("stage", list(Stage))
def test_stage_misses_when_its_setting_changed(stage: Stage, toy_run: ToyRun) -> None:
    _, arguments = record_calls(toy_run.config)[stage.value]
    name, update = CHANGED_SETTING[stage]
    value = arguments[name]
    changed = value.model_copy(update=update) if hasattr(value, "model_copy") else update
    reason = reason_for(stage, toy_run, {name: changed})
    assert f"config {name}" in reason
    assert "input" not in reason


@pytest.mark.parametrize("stage", list(Stage))
def test_stage_misses_when_its_code_changed(
    stage: Stage, toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition, arguments = record_calls(toy_run.config)[stage.value]
    present = tasks.engine._code_hash.read_code

    def edited(module: str) -> str:
        return present(module) + ("edited" if module == definition.module else "")

    monkeypatch.setattr(tasks.engine._code_hash, "read_code", edited)
    found = look_up(definition, stage_key(definition, arguments))
    assert found.reference is None
    assert "code" in found.reason


@pytest.mark.parametrize("harm", ["deleted", "damaged"])
@pytest.mark.parametrize("stage", list(Stage))
def test_stage_recomputes_when_its_output_was_harmed(
    stage: Stage, harm: str, toy_run: ToyRun
) -> None:
    definition, arguments = record_calls(toy_run.config)[stage.value]
    key = stage_key(definition, arguments)
    before = look_up(definition, key).reference
    assert before is not None
    victim = next(
        path
        for path in sorted((toy_run.home / before.folder).rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    )
    if harm == "deleted":
        victim.unlink()
    else:
        victim.write_bytes(b"damaged" + victim.read_bytes()[7:])
    assert harm in look_up(definition, key).reason
    state = call(stage, arguments)
    assert state.name == "Completed"
    after = look_up(definition, key).reference
    assert after is not None
    assert after.sha256 == before.sha256
    assert call(stage, arguments).name == "Cached"


def inject(
    stage: Stage, error: Exception, monkeypatch: pytest.MonkeyPatch, *, times: int
) -> list[str]:
    """Make opening the stage's output folder fail, and count how often it was tried."""
    attempts: list[str] = []

    class Faulty(OutputFolder):
        def __post_init__(self) -> None:
            if self.key.stage == stage.value:
                attempts.append(stage.value)
                if len(attempts) <= times:
                    raise error
            super().__post_init__()

    monkeypatch.setattr(tasks.engine.stage, "OutputFolder", Faulty)
    return attempts


def forget(stage: Stage, toy_run: ToyRun) -> None:
    """Remove the stage's output, so that it has to run."""
    definition, arguments = record_calls(toy_run.config)[stage.value]
    shutil.rmtree(toy_run.home / stage_key(definition, arguments).folder)


@pytest.mark.parametrize("stage", list(Stage))
def test_stage_fault_is_retried_and_the_flow_ends_well(
    stage: Stage, toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(stage, toy_run)
    task = getattr(importlib.import_module(f"tasks.{stage.value}"), stage.value)
    monkeypatch.setattr(task, "retry_delay_seconds", [0.01] * 3)
    attempts = inject(stage, OSError("the disk hiccuped"), monkeypatch, times=1)
    report = train_sft(toy_run.config)
    assert len(attempts) == 2
    assert report.decision is Decision.PROMOTE


@pytest.mark.parametrize("stage", list(Stage))
def test_stage_data_error_is_not_retried(
    stage: Stage, toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        forget(stage, toy_run)
        attempts = inject(stage, DataRejected("the rows are bad"), patch, times=99)
        with pytest.raises(DataRejected, match="the rows are bad"):
            train_sft(toy_run.config)
    assert len(attempts) == 1
    train_sft(toy_run.config)  # nothing was lost: the next run completes
    assert record_calls(toy_run.config).keys() == {stage.value for stage in Stage}


def test_what_a_run_does_each_time_is_retried_and_never_cached(prefect_server: None) -> None:
    attempts: list[int] = []

    @retried_task
    def look_up_once(number: int) -> int:
        """Find the store away at the first attempt."""
        attempts.append(number)
        if len(attempts) == 1:
            raise ServiceUnreachable("the store does not answer")
        return number

    @flow(name="look-ups")
    def look_ups() -> list[int]:
        return [look_up_once(7), look_up_once(7)]

    assert look_ups() == [7, 7]
    assert attempts == [7, 7, 7]
    assert look_ahead(lambda: look_up_once(8)) == []  # in a plan, without Prefect
    assert attempts[-1] == 8


def test_interruption_within_a_library_ends_the_run_at_once(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a database call is raised by the library as an error of its own."""
    fault = OSError("the roll-back failed")
    fault.__context__ = KeyboardInterrupt()
    with monkeypatch.context() as patch:
        forget(Stage.DECIDE, toy_run)
        attempts = inject(Stage.DECIDE, fault, patch, times=99)
        with pytest.raises(KeyboardInterrupt):
            train_sft(toy_run.config)
    assert len(attempts) == 1
    assert train_sft(toy_run.config).decision is Decision.PROMOTE


def test_interrupted_look_up_is_not_retried(prefect_server: None) -> None:
    attempts: list[int] = []

    @retried_task
    def look_up_once() -> None:
        """Meet Ctrl-C while the store answers."""
        attempts.append(1)
        raise ServiceUnreachable("the store does not answer") from KeyboardInterrupt()

    @flow(name="look-up")
    def look_up_in_flow() -> None:
        look_up_once()

    with pytest.raises(KeyboardInterrupt):
        look_up_in_flow()
    assert attempts == [1]
