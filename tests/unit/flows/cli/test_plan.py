from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest

import flows.cli.plan as plan
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.records.references import DatasetReference, QualityReference, TemplateReference
from schemas.records.stages import Stage
from schemas.rule_ids import Verdict
from tasks.training.plan.machine import Machine
from tests.support.evaluations import template_reference
from tests.support.toy import make_toy_model

MACHINE = Machine(device="cpu", free_memory_bytes=8 * 2**30, physical_cores=4)


def config_of(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": training})


def quality_of(folder: str) -> QualityReference:
    return QualityReference(
        stage="check_quality",
        folder=folder,
        sha256="0",
        verdict=Verdict.PASSED,
        n_train_rows=7,
        n_eval_rows=2,
        n_train_tokens=1500,
        n_supervised_tokens=700,
        eval_sha256="0",
        rules=(),
    )


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
    found = plan.estimate_training(RunConfig(), [dataset(work_folder)], "cpu")
    assert found is not None
    assert (found.n_train_rows, found.n_train_tokens) == (9, 900)
    assert "guessed" in found.basis


def test_estimate_training_from_counted_tokens_when_they_are_known(work_folder: Path) -> None:
    quality = quality_of("b")
    folder = work_folder / quality.folder
    folder.mkdir(parents=True)
    ids = [[row + 1] * 200 for row in range(7)]  # rows that share no first token
    columns = {"row": list(range(7)), "input_ids": ids, "labels": ids}
    parquet.write_table(pyarrow.table(columns), folder / "train_tokens.parquet")
    found = plan.estimate_training(RunConfig(), [dataset(work_folder), quality], "cpu")
    assert found is not None
    assert (found.n_train_rows, found.n_train_tokens, found.seconds) == (7, 1500, 10.0)
    assert found.tokens_per_second == 150.0


def test_estimate_training_is_unknown_before_anything_was_loaded() -> None:
    assert plan.estimate_training(RunConfig(), [], "cpu") is None


def test_show_plan_without_work_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    entry = plan.PlannedStage(stage=Stage.DECIDE, outcome="HIT", reason="verified 2 files")
    plan.show_plan(plan.PlanReport(stages=(entry,), estimate=None))
    assert "Nothing to do" in capsys.readouterr().out


def prepared(work_folder: Path) -> tuple[TemplateReference, QualityReference]:
    make_toy_model(work_folder / "stages" / "t" / "model")
    folder = work_folder / "stages" / "q"
    folder.mkdir()
    rows = pyarrow.table({"input_ids": [[1] * 600, [2] * 30]})
    parquet.write_table(rows, folder / "train_tokens.parquet")
    template = template_reference()
    return template, quality_of("stages/q")


def test_plan_training_takes_sizes_from_the_prepared_model_and_rows(work_folder: Path) -> None:
    config = config_of(per_device_train_batch_size="auto", effective_batch_size=8)
    found = plan.plan_training(config, prepared(work_folder), MACHINE)
    assert found.memory is not None
    # 4,096 tokens a pass hold 6 sequences of 600 tokens; 4 is the largest divisor of 8 below.
    assert (found.batching.per_device, found.batching.accumulation) == (4, 2)


def test_plan_training_before_anything_was_prepared_says_what_is_known() -> None:
    found = plan.plan_training(RunConfig(), [], MACHINE)
    assert found.memory is None
    assert found.choices.threads == 4


def test_show_plan_prints_choices_batch_and_memory(
    work_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = plan.PlannedStage(stage=Stage.TRAIN_MODEL, outcome="RUN", reason="new")
    setup = plan.plan_training(RunConfig(), prepared(work_folder), MACHINE)
    plan.show_plan(plan.PlanReport(stages=(entry,), estimate=None, training=setup))
    text = capsys.readouterr().out
    for word in ("precision", "fp32", "sdpa", "shared_prompt", "batch", "memory", "weights"):
        assert word in text


def test_show_plan_says_what_waits_for_the_prepared_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = config_of(per_device_train_batch_size="auto", effective_batch_size=8)
    entry = plan.PlannedStage(stage=Stage.TRAIN_MODEL, outcome="RUN", reason="new")
    setup = plan.plan_training(config, [], MACHINE)
    plan.show_plan(plan.PlanReport(stages=(entry,), estimate=None, training=setup))
    assert "prepare_template has run" in " ".join(capsys.readouterr().out.split())


def test_make_plan_finds_a_server_that_cannot_start_first() -> None:
    server = {"command": "/opt/no/vllm serve {model} --port {port}"}
    config = RunConfig.model_validate({"evaluation": {"server": server}})
    with pytest.raises(ConfigError, match="/opt/no/vllm, does not exist"):
        plan.make_plan(config, ())
