"""The document of a run and its summary, without a run."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.report.document import outcome, pair_answers, summarise
from tests.support.reports import toy_report


def test_pair_answers_shows_the_question_as_it_was_asked() -> None:
    def answered(answer: str) -> list[dict[str, Any]]:
        return [{"row": 4, "prompt": "<s>Why?</s>", "reference": "r", "answer": answer}]

    roles = {"base": answered("b"), "champion": answered("c"), "challenger": answered("t")}
    assert pair_answers(roles, [{"row": 4, "prompt": "<s>Why?</s>", "question": "Why?"}]) == [
        {"prompt": "Why?", "reference": "r", "base": "b", "champion": "c", "challenger": "t"}
    ]


def test_summarise_shows_missing_metrics_as_a_dash() -> None:
    assert "| exact_match | - | - |" in summarise(toy_report())


def test_summarise_gives_every_role_a_column() -> None:
    metrics = {"base": {"loss": 2.0}, "champion": {"loss": 1.5}, "challenger": {"loss": 1.25}}
    text = summarise(toy_report(metrics=metrics))
    assert "| metric | base | champion | challenger |" in text
    assert "| loss | 2 | 1.500 | 1.250 |" in text


@pytest.mark.parametrize(
    ("decision", "is_promoted", "words"),
    [
        ("promote", True, "promoted"),
        ("promote", False, "not promoted"),
        ("refuse", False, "refused"),
        ("skipped", False, "not evaluated"),
    ],
)
def test_outcome_says_what_became_of_the_model(
    decision: str, is_promoted: bool, words: str
) -> None:
    registry = {"is_promoted": is_promoted}
    assert outcome({"decision": decision, "registry": registry}) == words
