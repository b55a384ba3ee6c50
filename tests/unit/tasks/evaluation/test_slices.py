"""Slices, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.config.evaluation import EvaluationConfig
from schemas.errors import ConfigError
from tasks.engine.jsonl import write_jsonl
from tasks.evaluation.losses import RowLoss
from tasks.evaluation.prompt_dependence import RowDependence
from tasks.evaluation.slices import (
    check_columns,
    rows_where_base_was_better,
    worst_slice,
    write_slices,
)


def prompt(row: int, category: str | None) -> dict[str, Any]:
    columns = {} if category is None else {"category": category}
    return {
        "row": row,
        "prompt": "x" * (10 * (row + 1)),
        "n_turns": 1 + row % 2,
        "columns": columns,
    }


def test_write_slices_breaks_down_by_column_turns_and_length(tmp_path: Path) -> None:
    losses = [RowLoss(row, float(row), 1, 0) for row in range(8)]
    prompts = [prompt(row, "roof" if row < 6 else None) for row in range(8)]
    scores = [{"row": 0, "scores": {"exact_match": 1.0}}]
    dependence = [RowDependence(row, 0.0, float(row), 1) for row in range(8)]
    found = write_slices(
        losses, scores, dependence, prompts, EvaluationConfig(slices=("category",)), tmp_path
    )
    assert json.loads((tmp_path / "slices.json").read_text(encoding="utf-8")) == found
    by_column = {one["value"]: one for one in found if one["by"] == "category"}
    assert by_column.keys() == {"(none)", "roof"}
    assert by_column["roof"]["n_rows"] == 6
    assert by_column["roof"]["metrics"]["loss"] == 2.5
    assert by_column["roof"]["metrics"]["exact_match"] == 1.0
    assert by_column["roof"]["metrics"]["prompt_dependence"] == 2.5
    assert not by_column["roof"]["is_small"]
    assert by_column["(none)"]["is_small"]
    turns = {one["value"]: one["metrics"]["loss"] for one in found if one["by"] == "turns"}
    assert turns == {"1": 3.0, "2": 4.0}
    lengths = [(one["value"], one["n_rows"]) for one in found if one["by"] == "length"]
    assert lengths == [
        ("0 to 29 characters", 2),
        ("30 to 49 characters", 2),
        ("50 to 69 characters", 2),
        ("70 characters and more", 2),
    ]


def test_check_columns_names_the_columns_there_are() -> None:
    prompts = [prompt(0, None), prompt(1, "roof")]
    check_columns(prompts, ())
    check_columns(prompts, ("category",))
    check_columns([], ("category",))
    with pytest.raises(ConfigError, match="the column 'categories'") as caught:
        check_columns(prompts, ("category", "categories"))
    assert caught.value.where == "evaluation.slices"
    assert caught.value.expected == "one of the columns: category"
    assert caught.value.fix == "use 'category'"
    with pytest.raises(ConfigError) as caught:
        check_columns(prompts[:1], ("category",))
    assert caught.value.expected.endswith("none besides the conversation")


def test_worst_slice_leaves_small_ones_out() -> None:
    def one(loss: float | None, is_small: bool) -> dict[str, Any]:
        return {"is_small": is_small, "metrics": {"loss": loss, "mean_answer_tokens": 3.0}}

    slices = [one(1.0, False), one(2.0, False), one(9.0, True), one(None, False)]
    assert worst_slice(slices, "loss") == slices[1]
    assert worst_slice(slices, "mean_answer_tokens") is None
    assert worst_slice([], "loss") is None


def test_rows_where_base_was_better_start_with_the_widest_gap(tmp_path: Path) -> None:
    for side, sums in (("base", [1.0, 2.0, 3.0]), ("challenger", [2.0, 1.0, 9.0])):
        (tmp_path / side).mkdir()
        rows = [
            {"row": n, "loss_sum_nats": loss, "n_tokens": 2, "n_correct_tokens": 0}
            for n, loss in enumerate(sums)
        ]
        write_jsonl(tmp_path / side / "losses.jsonl", rows)
    found = rows_where_base_was_better(tmp_path / "base", tmp_path / "challenger", "loss", 5)
    assert found == [
        {"row": 2, "base": 1.5, "challenger": 4.5},
        {"row": 0, "base": 0.5, "challenger": 1.0},
    ]
    assert (
        len(rows_where_base_was_better(tmp_path / "base", tmp_path / "challenger", "loss", 1)) == 1
    )


def test_no_row_is_better_by_a_metric_without_direction(tmp_path: Path) -> None:
    base, challenger = tmp_path / "base", tmp_path / "challenger"
    for folder, n_tokens in ((base, 9.0), (challenger, 3.0)):
        folder.mkdir()
        rows = [{"row": 0, "scores": {"mean_answer_tokens": n_tokens}}]
        write_jsonl(folder / "row_scores.jsonl", rows)
    assert rows_where_base_was_better(base, challenger, "mean_answer_tokens", 5) == []


def test_write_slices_of_no_rows_is_empty(tmp_path: Path) -> None:
    assert write_slices([], [], [], [], EvaluationConfig(), tmp_path) == []
