"""Row scores, and the metrics made of them, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from schemas.config.evaluation import EvaluationConfig
from schemas.errors import MetricError
from tasks.engine.jsonl import write_jsonl
from tasks.evaluation.answers import RowAnswer
from tasks.evaluation.losses import RowLoss
from tasks.evaluation.prompt_dependence import PROMPT_DEPENDENCE_FILE, RowDependence
from tasks.evaluation.row_scores import (
    perplexity,
    read_groups,
    read_scores,
    score_answers,
    summarise,
)

LOSSES = [RowLoss(0, 6.0, 2, 1), RowLoss(1, 2.0, 2, 2)]


def answered(row: int, answer: str, reference: str) -> RowAnswer:
    return RowAnswer(
        row=row, prompt="p", reference=reference, answer=answer, n_answer_tokens=2, is_stopped=True
    )


def test_score_answers_asks_every_metric_of_every_answer() -> None:
    evaluation = EvaluationConfig(metrics=("exact_match", "number_match"))
    scored = score_answers([answered(3, "a", "a"), answered(4, "5", "6")], evaluation)
    assert scored == [
        {"row": 3, "scores": {"exact_match": 1.0, "number_match": None}},
        {"row": 4, "scores": {"exact_match": 0.0, "number_match": 0.0}},
    ]


@pytest.mark.parametrize("text", ["{", '{"type": "nonsense"}', "5", "null", "[]"])
def test_score_answers_refuses_what_is_no_json_schema(tmp_path: Path, text: str) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(text, encoding="utf-8")
    evaluation = EvaluationConfig(metrics=("json_schema_validity",), json_schema=str(schema))
    with pytest.raises(MetricError, match="JSON Schema cannot be used"):
        score_answers([answered(0, "{}", "{}")], evaluation)
    for other in ("missing.json", "/dev/zero"):
        with pytest.raises(MetricError, match="JSON Schema cannot be used"):
            score_answers([], evaluation.model_copy(update={"json_schema": other}))


def test_summarise_weighs_tokens_and_leaves_out_rows_without_a_value() -> None:
    rows = [
        {"row": 0, "scores": {"a": 1.0, "b": None}},
        {"row": 1, "scores": {"a": 0.0, "b": None}},
    ]
    dependence = [RowDependence(0, 6.0, 9.0, 2), RowDependence(1, 2.0, 1.0, 2)]
    assert summarise(LOSSES, rows, dependence) == {
        "loss": 2.0,
        "perplexity": math.exp(2.0),
        "token_accuracy": 0.75,
        "prompt_dependence": 0.5,
        "a": 0.5,
        "b": None,
    }
    assert summarise([], [], [])["loss"] is None
    assert summarise([], [], [])["prompt_dependence"] is None


def test_perplexity_of_an_endless_loss_is_infinite() -> None:
    assert perplexity(1e6) == math.inf


def test_read_scores_gives_sum_and_weight_of_each_row(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "losses.jsonl", [loss.__dict__ for loss in LOSSES])
    rows = [{"row": 0, "scores": {"a": 1.0}}, {"row": 1, "scores": {"a": None}}]
    write_jsonl(tmp_path / "row_scores.jsonl", rows)
    tasks = [{"row": 0, "task": "t", "score": 1}, {"row": 0, "task": "u", "score": 0}]
    write_jsonl(tmp_path / "lm_eval_scores.jsonl", tasks)
    assert read_scores(tmp_path, "loss") == {0: (6.0, 2.0), 1: (2.0, 2.0)}
    assert read_scores(tmp_path, "perplexity") == read_scores(tmp_path, "loss")
    assert read_scores(tmp_path, "token_accuracy") == {0: (1.0, 2.0), 1: (2.0, 2.0)}
    assert read_scores(tmp_path, "a") == {0: (1.0, 1.0)}
    assert read_scores(tmp_path, "b") == {}
    write_jsonl(tmp_path / PROMPT_DEPENDENCE_FILE, [RowDependence(0, 6.0, 9.0, 2).__dict__])
    assert read_scores(tmp_path, "prompt_dependence") == {0: (3.0, 2.0)}
    assert read_scores(tmp_path, "lm_eval/u") == {0: (0.0, 1.0)}


def test_read_groups_gives_the_group_of_each_held_out_row_alone(tmp_path: Path) -> None:
    rows = [{"row": 0, "group": 0}, {"row": 2, "group": 0}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_groups(tmp_path, "chrf") == {0: 0, 2: 0}
    assert read_groups(tmp_path, "lm_eval/u") == {}  # its rows are others
