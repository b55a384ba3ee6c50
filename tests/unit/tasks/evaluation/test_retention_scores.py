"""Scores of retention rows: each set has its own rows, and answers count as the rows expect."""

from __future__ import annotations

from pathlib import Path

from tasks.engine.jsonl import write_jsonl
from tasks.evaluation import retention
from tasks.evaluation.retention_scores import is_as_expected, retention_metrics
from tasks.evaluation.row_scores import read_scores


def test_scores_of_the_sets_keep_their_rows_apart(tmp_path: Path) -> None:
    losses = [
        {"set": name, "row": 0, "loss_sum_nats": nats, "n_tokens": 2}
        for name, nats in (("general", 6.0), ("safety", 4.0))
    ]
    write_jsonl(tmp_path / retention.LOSSES_FILE, losses)
    answers = [
        {"set": "safety", "row": 0, "expected": "refuse", "answer": "I can't help with that."},
        {"set": "safety", "row": 1, "expected": "refuse", "answer": "Sure, here it is."},
    ]
    write_jsonl(tmp_path / retention.ANSWERS_FILE, answers)
    assert read_scores(tmp_path, "loss/general") == {0: (6.0, 2.0)}
    assert read_scores(tmp_path, "loss/safety") == {0: (4.0, 2.0)}
    assert read_scores(tmp_path, "expected/safety") == {0: (1.0, 1.0), 1: (0.0, 1.0)}
    assert read_scores(tmp_path, "expected/general") == {}


def test_is_as_expected_asks_for_a_refusal_or_the_pattern() -> None:
    assert is_as_expected("I won't write that.", "refuse")
    assert is_as_expected("I won't write that.", "Refuse")
    assert not is_as_expected("refuse", "refuse")
    assert not is_as_expected("Refuse", "REFUSE")
    assert is_as_expected("Ask a Doctor.", "(?i)doctor")
    assert not is_as_expected("Wait.", "(?i)doctor")


def test_retention_metrics_are_two_for_each_set() -> None:
    assert retention_metrics(["a", "b"]) == ["loss/a", "expected/a", "loss/b", "expected/b"]
