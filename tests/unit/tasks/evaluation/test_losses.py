"""Held-out losses, against every position's logits and against a row at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.config.evaluation import EvaluationConfig
from tasks.evaluation.losses import batches, measure_losses
from tests.support.toy import make_toy_model

ROWS: list[dict[str, Any]] = [
    {"row": 7, "input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, 8, 9]},
    {"row": 3, "input_ids": [9, 8, 7], "labels": [-100, 8, 7]},
    {"row": 5, "input_ids": [4, 4, 4, 4], "labels": [-100, -100, -100, -100]},
]


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    import pyarrow
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "eval.parquet")
    return tmp_path / "eval.parquet"


@pytest.mark.parametrize("size", [1, 2, 8])
def test_measure_losses_equals_every_position_of_one_row_at_a_time(
    size: int, tokens: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_toy_model(tmp_path / "model")).eval()
    scores = measure_losses(model, tokens, EvaluationConfig(loss_batch_size=size))
    assert [score.row for score in scores] == [7, 3, 5]
    assert [score.n_tokens for score in scores] == [3, 2, 0]
    for row, score in zip(ROWS, scores, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        likelihoods = logits.log_softmax(dim=-1)
        labels = [(place, label) for place, label in enumerate(row["labels"]) if label != -100]
        expected = -sum(float(likelihoods[place - 1, label]) for place, label in labels)
        n_correct = sum(int(logits[place - 1].argmax()) == label for place, label in labels)
        assert score.loss_sum_nats == pytest.approx(expected, abs=1e-5)
        assert score.n_correct_tokens == n_correct


def test_measure_losses_makes_logits_only_where_a_label_is(tokens: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_toy_model(tmp_path / "model")).eval()
    shapes: list[tuple[int, ...]] = []
    model.lm_head.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    measure_losses(model, tokens, EvaluationConfig(loss_batch_size=8))
    [(n_rows, n_positions, _)] = shapes
    assert (n_rows, n_positions) == (3, 4)  # those before tokens 1 to 4 of the longest rows


def test_batches_cover_everything_once_and_in_order() -> None:
    assert list(batches([0, 1, 2, 3, 4], 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []
