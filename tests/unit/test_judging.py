"""Scores, checked against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from schemas.run_config import EvaluationConfig
from tasks._answers import RowAnswer, answer_prompts
from tasks._batches import batches
from tasks._judging import summarise
from tasks._lines import read_jsonl, write_jsonl
from tasks._losses import RowLoss, measure_losses
from tests.toy import make_toy_model

pytestmark = pytest.mark.unit


def answer(text: str, reference: str, *, is_stopped: bool, n_tokens: int) -> RowAnswer:
    return RowAnswer(0, "p", reference, text, n_tokens, is_stopped)


def test_summarise_weights_rows_by_their_tokens() -> None:
    losses = [RowLoss(0, 6.0, 2, 1), RowLoss(1, 2.0, 6, 5)]
    metrics = summarise(losses, [])
    assert metrics["loss"] == pytest.approx(1.0)  # 8 nats over 8 tokens, not (3 + 1/3) / 2
    assert metrics["perplexity"] == pytest.approx(math.e)
    assert metrics["token_accuracy"] == pytest.approx(0.75)
    assert metrics["exact_match"] is None


def test_summarise_counts_answers() -> None:
    answers = [
        answer("red  wall", "red wall", is_stopped=True, n_tokens=2),
        answer("", "blue", is_stopped=True, n_tokens=0),
        answer("grey", "blue", is_stopped=False, n_tokens=4),
        answer("blue.", "blue", is_stopped=True, n_tokens=2),
    ]
    metrics = summarise([], answers)
    assert metrics["exact_match"] == 0.25
    assert metrics["stop_rate"] == 0.75
    assert metrics["empty_rate"] == 0.25
    assert metrics["mean_answer_tokens"] == 2.0
    assert metrics["loss"] is None


def test_summarise_gives_infinite_perplexity_instead_of_an_overflow() -> None:
    assert summarise([RowLoss(0, 1e6, 1, 0)], [])["perplexity"] == math.inf


def test_batches_cover_everything_once() -> None:
    rows = [{"row": number} for number in range(5)]
    assert [len(part) for part in batches(rows, 2)] == [2, 2, 1]


def test_jsonl_keeps_line_separators_inside_text(tmp_path: Path) -> None:
    rows = [{"text": "one\u2028two\x85three"}, {"text": "å"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


def test_measure_losses_equals_one_row_at_a_time(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_toy_model(tmp_path / "model")).eval()
    rows: list[dict[str, Any]] = [
        {"row": 7, "input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, 8, 9]},
        {"row": 3, "input_ids": [9, 8, 7], "labels": [-100, 8, 7]},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "eval.parquet")
    scores = measure_losses(model, tmp_path / "eval.parquet", EvaluationConfig(loss_batch_size=2))
    assert [score.row for score in scores] == [7, 3]
    assert [score.n_tokens for score in scores] == [3, 2]
    for row, score in zip(rows, scores, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        likelihoods = logits.log_softmax(dim=-1)
        expected = -sum(
            float(likelihoods[place - 1, label])
            for place, label in enumerate(row["labels"])
            if label != -100
        )
        assert score.loss_sum_nats == pytest.approx(expected, abs=1e-4)


def test_answer_prompts_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_toy_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [
        {"row": row, "prompt": f"<|im_start|>user\n{text}<|im_end|>\n", "reference": "r"}
        for row, text in enumerate(["a", "a much longer prompt", "middling"])
    ]
    one = answer_prompts(
        model, tokenizer, prompts, EvaluationConfig(generation_batch_size=1, max_new_tokens=6)
    )
    all_together = answer_prompts(
        model, tokenizer, prompts, EvaluationConfig(generation_batch_size=3, max_new_tokens=6)
    )
    assert one == all_together
    assert [row.row for row in one] == [0, 1, 2]
