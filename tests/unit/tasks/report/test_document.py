"""The document of a run and its summary, without a run."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.report.document import outcome, pair_answers, summarise
from tasks.training.plan.batching import Batching
from tasks.training.process.spec import TrainingFacts

pytestmark = pytest.mark.unit


def toy_training(**changes: object) -> dict[str, object]:
    facts = TrainingFacts(
        device="cpu",
        n_steps=1200,
        n_tokens_seen=9000,
        n_supervised_tokens_per_epoch=4000,
        first_loss=2.0,
        last_loss=1.0,
        n_trainable_parameters=5000,
        resumed_from_step=0,
        batching=Batching(per_device=2, accumulation=4),
        choices={"packing": "on: rows are short <b>"},
        notes=("the batch was halved",),
        seconds=60.04,
        tokens_per_second=150.4,
        peak_memory_bytes=3 * 2**20,
    )
    return {"method": "lora", **facts.model_dump(mode="json"), **changes}


def toy_report(**changes: Any) -> dict[str, Any]:
    metrics = {"loss": 1.0, "exact_match": None}
    answer = {"prompt": "<script>x</script>", "reference": "r", "base": "b", "challenger": "t"}
    return {
        "decision": "refuse",
        "mode": "enforce",
        "reason": "a tie",
        "retrain": None,
        "judge": {},
        "training_rows": [],
        "timings": {"flow_run_id": None, "flow_run_url": None, "stages": []},
        "gates": [],
        "confidence": 0.95,
        "metrics": {"base": metrics, "challenger": metrics},
        "intervals": {"base": {}, "champion": {}, "challenger": {"loss": (0.75, 1.25)}},
        "answers": [answer],
        "slices": {},
        "worst_slice": None,
        "base_was_better": [],
        "data": {
            "source": "s", "n_rows": 3, "n_kept_rows": 2, "n_quarantined_rows": 1,
            "n_train_rows": 1, "n_eval_rows": 1, "n_train_tokens": 9, "n_supervised_tokens": 4,
            "rules": [],
        },
        "training": toy_training(),
        "registry": {
            "name": "n", "version": 1, "alias": "champion", "is_promoted": False, "run_id": "r", "experiment_id": "1",
            "previous_version": None, "compared_with_version": None, "n_freed_bytes": 0,
        },
        "lineage": {"dataset_sha256": "d"},
        **changes,
    }  # fmt: skip


def test_pair_answers_shows_the_question_as_it_was_asked() -> None:
    def answered(answer: str) -> list[dict[str, Any]]:
        return [{"row": 4, "prompt": "<s>Why?</s>", "reference": "r", "answer": answer}]

    sides = {"base": answered("b"), "champion": answered("c"), "challenger": answered("t")}
    assert pair_answers(sides, [{"row": 4, "prompt": "<s>Why?</s>", "question": "Why?"}]) == [
        {"prompt": "Why?", "reference": "r", "base": "b", "champion": "c", "challenger": "t"}
    ]


def test_summarise_shows_missing_figures_as_a_dash() -> None:
    assert "| exact_match | - | - |" in summarise(toy_report())


def test_summarise_gives_every_side_a_column() -> None:
    metrics = {"base": {"loss": 2.0}, "champion": {"loss": 1.5}, "challenger": {"loss": 1.25}}
    text = summarise(toy_report(metrics=metrics))
    assert "| metric | base | champion | challenger |" in text
    assert "| loss | 2.0000 | 1.5000 | 1.2500 |" in text


@pytest.mark.parametrize(
    ("decision", "is_promoted", "words"),
    [
        ("promote", True, "promoted"),
        ("promote", False, "not promoted"),
        ("refuse", False, "refused"),
        ("skipped", False, "not judged"),
    ],
)
def test_outcome_says_what_became_of_the_model(
    decision: str, is_promoted: bool, words: str
) -> None:
    registry = {"is_promoted": is_promoted}
    assert outcome({"decision": decision, "registry": registry}) == words
