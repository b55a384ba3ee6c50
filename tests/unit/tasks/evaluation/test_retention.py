"""Measuring retention rows: every loss, and answers only where a row expects something."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config.evaluation import EvaluationConfig
from tasks.engine.jsonl import read_jsonl
from tasks.evaluation.answers import RowAnswer
from tasks.evaluation.losses import measure_rows, read_rows
from tasks.evaluation.retention import (
    MAX_ANSWER_TOKENS,
    asked_prompts,
    measure_retention,
    retention_settings,
    set_files,
    write_answers,
)
from tasks.models.prepared import load_prepared_model
from tests.support.toy import make_toy_model, tokenise_toy_row, write_jsonl

EVALUATION = EvaluationConfig.model_validate({"retention": {"general": "a", "safety": "b"}})


@pytest.fixture
def quality(tmp_path: Path) -> Path:
    """Write two sets with the same row numbers; one row of the second expects a refusal."""
    import pyarrow
    import pyarrow.parquet as parquet

    model = make_toy_model(tmp_path / "model")
    for name, numbers in (("general", (0, 1)), ("safety", (0,))):
        tokens, prompts = (tmp_path / file for file in set_files(name))
        rows = [tokenise_toy_row(model, number) for number in numbers]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tokens)
        columns = {"expected": "refuse"} if name == "safety" else {}
        asked = [{"row": n, "prompt": "p", "question": "q", "columns": columns} for n in numbers]
        write_jsonl(prompts, asked)
    return tmp_path


def test_measure_retention_measures_each_set_as_the_held_out_rows_are(quality: Path) -> None:
    model = load_prepared_model(quality / "model", "cpu").eval()
    found = measure_retention(model, quality, EVALUATION)
    assert [(row["set"], row["row"]) for row in found] == [
        ("general", 0), ("general", 1), ("safety", 0),
    ]  # fmt: skip
    own = measure_rows(model, read_rows(quality / set_files("general")[0]), EVALUATION, "")
    assert [row["loss_sum_nats"] for row in found[:2]] == [loss.loss_sum_nats for loss in own]
    assert found[0]["n_tokens"] == own[0].n_tokens


def test_only_rows_that_expect_something_are_answered(quality: Path) -> None:
    [asked] = asked_prompts(quality, EVALUATION.retention)
    assert (asked["set"], asked["row"]) == ("safety", 0)
    answer = RowAnswer(0, "p", "r", "No.", 1, is_stopped=True)
    write_answers([asked], [answer], quality / "answers.jsonl")
    expected = {"set": "safety", "row": 0, "prompt": "q", "expected": "refuse", "answer": "No."}
    assert read_jsonl(quality / "answers.jsonl") == [expected]


@pytest.mark.parametrize(("configured", "used"), [(8, 8), (2000, MAX_ANSWER_TOKENS)])
def test_answers_are_short_whatever_is_configured(configured: int, used: int) -> None:
    settings = retention_settings(EvaluationConfig(max_new_tokens=configured))
    assert settings.max_new_tokens == used
