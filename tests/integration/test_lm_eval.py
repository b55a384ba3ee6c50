"""A task of lm-evaluation-harness on a toy model, from a file and without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.config.evaluation import LmEvalConfig
from schemas.errors import ConfigError
from tasks.engine.jsonl import read_jsonl
from tasks.evaluation._lm_eval import _scores, _task, run_lm_eval
from tasks.evaluation.row_scores import read_scores
from tests.support.parts import LM_EVAL
from tests.support.toy import make_toy_model, write_jsonl

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # the harness imports what warns
]

TASK = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: [red, green]
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


def test_run_lm_eval_scores_every_document(tmp_path: Path) -> None:
    LM_EVAL.require()
    rows: list[dict[str, object]] = [
        {"question": f"Wall {number}?", "answer": number % 2} for number in range(4)
    ]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    task = tmp_path / "walls.yaml"
    task.write_text(TASK.format(data=json.dumps(str(data))), encoding="utf-8")
    model = make_toy_model(tmp_path / "model")
    settings = LmEvalConfig(tasks=(str(task),), limit=3)
    run_lm_eval((model, model), settings, 1, tmp_path)
    scores = read_jsonl(tmp_path / "lm_eval_scores.jsonl")
    assert [row["row"] for row in scores] == [0, 1, 2]
    assert {row["score"] for row in scores} <= {0.0, 1.0}
    assert read_scores(tmp_path, f"lm_eval/{task}").keys() == {0, 1, 2}


def test_scores_take_groups_filters_and_directions_as_they_are() -> None:
    def document(number: int, score: float, filtered: str = "none") -> dict[str, object]:
        return {
            "doc_id": number,
            "filter": filtered,
            "metrics": ["ter", "acc"],
            "acc": score,
            "ter": 9.0,
        }

    found = {
        "samples": {
            "one": [document(1, 0.5), document(0, 1.0), document(0, 0.0, "strict")],
            "two": [document(0, 0.25)],
        },
        "group_subtasks": {"both": ["one", "two"]},
        "higher_is_better": {"one": {"acc": True, "ter": False}, "two": {"acc": True}},
    }
    rows = list(_scores(found, ["both"]))
    assert [(row["row"], row["score"]) for row in rows] == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert {row["task"] for row in rows} == {"both"}
    found["higher_is_better"] = {"one": {"acc": False, "ter": False}}
    with pytest.raises(ConfigError, match="no metric per document of which more is better"):
        list(_scores(found, ["one"]))


@pytest.mark.parametrize("name", ["arc_eazy", "missing.yaml"])
def test_unknown_task_is_named(tmp_path: Path, name: str) -> None:
    LM_EVAL.require()
    with pytest.raises(ConfigError, match="there is no task"):
        run_lm_eval((tmp_path, tmp_path), LmEvalConfig(tasks=(name,)), 1, tmp_path)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("doc_to_text: !function utils.ask", "!function"),
        ("- a list", "list"),
        ("a: [", "but found"),
    ],
)
def test_task_file_that_is_no_plain_yaml_is_one_clear_error(
    tmp_path: Path, text: str, got: str
) -> None:
    task = tmp_path / "walls.yaml"
    task.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        _task(str(task))
    assert got in caught.value.got
    assert str(task) in caught.value.where
