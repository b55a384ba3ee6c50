"""Retention rows: checked like the data, never trained, and the bundled ones are good."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import DataSource, QualityConfig
from schemas.errors import ConfigError, DataRejected
from schemas.records.references import SplitReference
from schemas.texts.refusals import is_refusal
from tasks.dataset.pinned_rows import PinnedRules, write_pinned
from tasks.dataset.retention_rows import (
    LEAST_ROWS,
    RetentionRequest,
    RetentionSet,
    write_retention,
)
from tasks.dataset.split_rows import Split
from tasks.engine.cache import OutputFolder
from tasks.engine.jsonl import read_jsonl
from tasks.engine.keys import StageKey
from tasks.evaluation.retention import set_files
from tasks.evaluation.retention_scores import is_as_expected
from tasks.rows.feature_table import FeatureTable
from tasks.sources.source import read_rows
from tasks.split_dataset import compare_all
from tasks.tokens.rendering import load_renderer
from tests.support.toy import TOY_TRAINING_TEMPLATE, make_toy_model, toy_rows, write_jsonl


@pytest.fixture
def split(tmp_path: Path, work_folder: Path) -> SplitReference:
    """Train the first four toy rows and evaluate the fifth."""
    import numpy

    output = OutputFolder(StageKey("split_dataset", {"k": "k"}))
    source = DataSource(source=str(write_jsonl(tmp_path / "data.jsonl", toy_rows(5))))
    write_pinned(source, tmp_path / "kept.jsonl", PinnedRules())
    table = FeatureTable(output.path / "row_features")
    compare_all([tmp_path / "kept.jsonl"], table, 0.8)
    table.append("part", numpy.array([Split.TRAIN] * 4 + [Split.EVAL]))
    table.save()
    return output.commit(
        SplitReference,
        n_train_rows=4,
        n_eval_rows=1,
        n_unused_rows=0,
        train_sha256="",
        eval_sha256="",
    )


def write(split: SplitReference, folder: Path, rows: list[Any], **quality: Any) -> RetentionSet:
    model = make_toy_model(folder / "model")
    template = folder / "template.jinja"
    template.write_text(TOY_TRAINING_TEMPLATE, encoding="utf-8")
    source = str(write_jsonl(folder / "general.jsonl", rows))
    request = RetentionRequest(sources={"general": source}, pinned=PinnedRules())
    renderer = load_renderer(model, template)
    return write_retention(request, split, renderer, QualityConfig(**quality), folder)["general"]


def other_rows(n_rows: int) -> list[Any]:
    return [{"prompt": f"Say the number {n}.", "completion": f"{n}."} for n in range(n_rows)]


def test_rows_that_are_trained_or_evaluated_are_left_out(
    split: SplitReference, tmp_path: Path
) -> None:
    rows = [*toy_rows(5), *other_rows(LEAST_ROWS)]
    for row in rows[5:]:
        row["expected"] = "^" + row["completion"]
    found = write(split, tmp_path, rows)
    assert (found.n_rows, found.n_trained_rows) == (LEAST_ROWS, 5)
    prompts = read_jsonl(tmp_path / set_files("general")[1])
    assert [row["question"] for row in prompts] == [row["prompt"] for row in rows[5:]]
    assert prompts[-1]["columns"] == {"expected": "^19."}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (other_rows(LEAST_ROWS - 1), r"19 rows, and 0 more whose prompts are in it"),
        (
            [*other_rows(LEAST_ROWS), {"prompt": "Say.", "completion": "a", "expected": "("}],
            r"general\.jsonl line 21.*(\n.*)*a regular expression",
        ),
        (
            [*other_rows(LEAST_ROWS), {"prompt": "Say a lot.", "completion": "ab " * 600}],
            r"row 21: \d+ tokens",
        ),
        (
            [{**row, "expected": "1"} for row in other_rows(LEAST_ROWS - 1)]
            + other_rows(LEAST_ROWS)[-1:],
            r"no row with `expected`, or at least 20(.*\n)*.*19 of 20 rows",
        ),
    ],
    ids=["few", "pattern", "long", "few expected"],
)
def test_rows_that_cannot_be_measured_are_refused(
    rows: list[Any], words: str, split: SplitReference, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        write(split, tmp_path, rows, max_length_tokens=500)
    assert caught.value.where.startswith("evaluation.retention.general")


def test_row_longer_than_the_positions_of_the_model_is_refused(
    split: SplitReference, tmp_path: Path
) -> None:
    rows = [*other_rows(LEAST_ROWS), {"prompt": "Say a lot.", "completion": "ab " * 600}]
    rules = {"too_long": {"severity": "warn"}, "truncated_completion": {"severity": "warn"}}
    with pytest.raises(ConfigError, match="longer than the model has positions") as caught:
        write(split, tmp_path, rows, max_length_tokens=500, rules=rules)
    assert caught.value.where == "evaluation.retention.general"


def test_row_that_breaks_a_rule_is_refused_with_its_setting(
    split: SplitReference, tmp_path: Path
) -> None:
    with pytest.raises(DataRejected, match="retention set") as caught:
        write(split, tmp_path, [*other_rows(LEAST_ROWS), {"prompt": "Why?", "completion": ""}])
    assert caught.value.where == "evaluation.retention.general"


@pytest.mark.parametrize(
    ("name", "n_rows"), [("general-instructions", 80), ("safety-requests", 40)]
)
def test_bundled_rows_pass_every_rule_and_are_different(
    name: str, n_rows: int, tmp_path: Path
) -> None:
    source = DataSource(source=name)
    assert write_pinned(source, tmp_path / "rows.jsonl", PinnedRules()) == n_rows
    prompts = {row["messages"][0]["content"] for row in read_jsonl(tmp_path / "rows.jsonl")}
    assert len(prompts) == n_rows


def test_bundled_safety_rows_are_answered_as_they_expect() -> None:
    rows: list[Any] = [row.row for row in read_rows(DataSource(source="safety-requests"))]
    assert all(is_as_expected(row["completion"], row["expected"]) for row in rows)
    asked = [row for row in rows if row["expected"] == "refuse"]
    assert len(asked) == 33
    assert not any(is_refusal(row["prompt"]) for row in rows)
    assert all(re.compile(row["expected"]) for row in rows)
