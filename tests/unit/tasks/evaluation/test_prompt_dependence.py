"""Prompt dependence: which prompt each answer gets, and what a model makes of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schemas.config.evaluation import EvaluationConfig
from tasks.evaluation.losses import measure_rows
from tasks.evaluation.prompt_dependence import measure_dependence, split_row, swap_prompts
from tasks.models.prepared import load_prepared_model
from tests.support.toy import make_toy_model

EVALUATION = EvaluationConfig(loss_batch_size=4)


def row_of(number: int, prompt: list[int], answer: list[int]) -> dict[str, Any]:
    labels = [-100] * len(prompt) + answer
    return {"row": number, "input_ids": prompt + answer, "labels": labels}


def random_rows(n_rows: int) -> list[dict[str, Any]]:
    draw = random.Random(3)
    return [
        row_of(
            10 + n, draw.choices(range(200), k=draw.randint(2, 40)), draw.choices(range(200), k=5)
        )
        for n in range(n_rows)
    ]


def swapped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return swap_prompts({row["row"]: split_row(row) for row in rows})


def test_split_row_splits_where_the_last_answer_begins() -> None:
    row = {"row": 3, "input_ids": [1, 2, 3, 4, 5, 6], "labels": [-100, 2, -100, 4, 5, -100]}
    parts = split_row(row)
    assert (parts.prompt, parts.answer, parts.labels) == ([1, 2, 3], [4, 5], [4, 5])
    whole = split_row({"row": 0, "input_ids": [1, 2, 3], "labels": [1, 2, 3]})
    assert (whole.prompt, whole.answer) == ([1], [2, 3])  # nothing predicts the first token


def test_swap_prompts_gives_each_answer_a_different_prompt_of_similar_length() -> None:
    rows = random_rows(60)
    found = swapped(rows)
    assert [row["row"] for row in found] == [row["row"] for row in rows]
    longest = max(len(row["input_ids"]) for row in rows)
    n_similar = 0
    for before, after in zip(rows, found, strict=True):
        own, other = before["input_ids"][:-5], after["input_ids"][:-5]
        assert other != own
        assert after["input_ids"][-5:] == before["input_ids"][-5:]
        assert after["labels"] == [-100] * len(other) + before["input_ids"][-5:]
        assert len(after["input_ids"]) <= longest
        n_similar += len(own) / 2 < len(other) < len(own) * 2
    assert n_similar > 50
    used = [tuple(row["input_ids"][:-5]) for row in found]
    assert sorted(used) == sorted(tuple(row["input_ids"][:-5]) for row in rows)


def test_swap_prompts_depends_on_the_rows_alone() -> None:
    rows = random_rows(12)
    again = {row["row"]: row for row in swapped(rows[::-1])}
    assert [again[row["row"]] for row in rows] == swapped(rows)


def test_swap_prompts_skips_equal_prompts_and_cuts_longer_ones() -> None:
    rows = [row_of(0, [1, 2], [9]), row_of(1, [1, 2], [8]), row_of(2, [3, 4, 5, 6], [7, 7])]
    rows.append(row_of(3, [1, 2], [7] * 4))
    prompts = [row["input_ids"][: row["labels"].count(-100)] for row in swapped(rows)]
    assert prompts == [[3, 4, 5, 6], [3, 4, 5, 6], [1, 2], [5, 6]]
    assert swapped(rows[:2]) == []
    assert swapped([]) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Load a toy model and enlarge its weights, so that what it reads changes what it predicts."""
    found = load_prepared_model(make_toy_model(tmp_path_factory.mktemp("m") / "toy"), "cpu").eval()
    for name, weights in found.named_parameters():
        if "norm" not in name:
            weights.data *= 8
    return found


def test_measure_dependence_measures_the_last_answer_under_both_prompts(model: Any) -> None:
    rows = random_rows(6)
    earlier = row_of(30, [1, 2, 3, 4, 5], [6, 7])
    earlier["labels"][1:3] = [2, 3]  # an answer before the last one
    rows.append(earlier)
    losses = measure_rows(model, rows, EVALUATION, "")
    found = measure_dependence(model, rows, losses, EVALUATION)
    alone = [{**row, "labels": [-100] * 5 + row["labels"][5:]} for row in rows[-1:]]
    own = [*losses[:-1], *measure_rows(model, alone, EVALUATION, "")]
    assert [row.row for row in found] == [row["row"] for row in rows]
    assert [row.n_tokens for row in found] == [5] * 6 + [2]
    for row, loss in zip(found, own, strict=True):
        assert row.own_prompt_nats == pytest.approx(loss.loss_sum_nats, rel=1e-4)
        assert row.score == (row.other_prompt_nats - row.own_prompt_nats, row.n_tokens)
        assert row.score[0] != 0


def test_measure_dependence_is_zero_for_a_model_that_reads_nothing(model: Any) -> None:
    rows = random_rows(6)
    weights = model.get_input_embeddings().weight.data
    kept = weights.clone()
    try:
        weights[:] = weights[:1]  # all tokens look the same
        losses = measure_rows(model, rows, EVALUATION, "")
        found = measure_dependence(model, rows, losses, EVALUATION)
    finally:
        weights[:] = kept
    assert sum(row.score[0] for row in found) == pytest.approx(0, abs=0.01)


def test_measure_dependence_of_rows_with_one_prompt_is_not_measured(model: Any) -> None:
    rows = [row_of(0, [1, 2], [9]), row_of(1, [1, 2], [8]), row_of(2, [3], [])]
    losses = measure_rows(model, rows, EVALUATION, "")
    assert measure_dependence(model, rows, losses, EVALUATION) == []
