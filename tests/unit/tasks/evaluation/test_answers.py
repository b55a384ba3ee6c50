"""Answers: the same words whatever the batch, cut where the model stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.config.evaluation import EvaluationConfig
from tasks.evaluation.answers import (
    answer_prompts,
    draw_prompts,
    encode_prompts,
    generate_tokens,
    learned_positions,
    read_answers,
    stop_token_ids,
)
from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer
from tests.support.families import make_family
from tests.support.toy import make_toy_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("answers") / "model", seed=3)


def load_lively(folder: Path) -> Any:
    """Load the model with larger weights: as it is made, it repeats the last token."""
    model = load_prepared_model(folder, "cpu").eval()
    for name, weights in model.named_parameters():
        if "norm" not in name:
            weights.data *= 8
    return model


def prompts_of(n_rows: int) -> list[dict[str, Any]]:
    """Make prompts of very different lengths, the longest in the middle."""
    return [
        {
            "row": 10 + row,
            "prompt": f"<|im_start|>user\n{'why ' * (row * 7 % n_rows)}{row}<|im_end|>\n",
            "reference": "red",
        }
        for row in range(n_rows)
    ]


@pytest.mark.parametrize("size", [2, 5, 16])
def test_answer_prompts_does_not_depend_on_the_batch_size(model: Path, size: int) -> None:
    asked = prompts_of(11)
    answers = {
        n: answer_prompts(
            load_lively(model),
            load_prepared_tokenizer(model),
            asked,
            EvaluationConfig(generation_batch_size=n, max_new_tokens=12),
        )
        for n in (1, size)
    }
    assert answers[1] == answers[size]
    assert [answer.row for answer in answers[1]] == list(range(10, 21))
    assert len({answer.answer for answer in answers[1]}) > 5
    assert all(answer.n_answer_tokens == 12 or answer.is_stopped for answer in answers[1])


def test_answer_prompts_stops_at_every_stop_token(model: Path) -> None:
    loaded, tokenizer = load_lively(model), load_prepared_tokenizer(model)
    [asked] = prompts_of(1)
    evaluation = EvaluationConfig(max_new_tokens=6)
    [free] = answer_prompts(loaded, tokenizer, [asked], evaluation)
    last = tokenizer(free.answer, add_special_tokens=False)["input_ids"][-1]
    loaded.generation_config.eos_token_id = [tokenizer.eos_token_id, last]
    assert stop_token_ids(loaded) == {tokenizer.eos_token_id, last}
    [stopped] = answer_prompts(loaded, tokenizer, [asked], evaluation)
    assert stopped.is_stopped
    assert stopped.n_answer_tokens < free.n_answer_tokens


def test_answer_prompts_of_nothing_is_nothing(model: Path) -> None:
    loaded = load_lively(model)
    assert answer_prompts(loaded, load_prepared_tokenizer(model), [], EvaluationConfig()) == []


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_answers_end_where_the_model_has_no_more_positions(name: str) -> None:
    model = make_family(name).eval()
    evaluation = EvaluationConfig(max_new_tokens=48)
    prompts = [[3] * 250, [4] * 10]
    found = generate_tokens(model, prompts, evaluation, pad_token_id=0)
    assert learned_positions(model) == 256
    assert max(map(len, found)) <= 6


def test_rotary_positions_have_no_end() -> None:
    assert learned_positions(make_family("llama")) is None


def test_encode_prompts_adds_no_token(model: Path) -> None:
    tokenizer = load_prepared_tokenizer(model)
    [ids] = encode_prompts(tokenizer, [{"prompt": "<|im_start|>ab"}])
    assert tokenizer.convert_ids_to_tokens(ids) == ["<|im_start|>", "a", "b"]


def test_read_answers_cuts_at_the_first_stop_token_and_counts(model: Path) -> None:
    tokenizer = load_prepared_tokenizer(model)
    [stop], [a, b] = (tokenizer(text)["input_ids"] for text in ("<|im_end|>", "ab"))
    row = {"row": 4, "prompt": "p", "reference": "red", "question": "q?"}
    generated = [[a, b, stop, a, stop], [a, a, a], [stop]]
    answers = read_answers(tokenizer, [row] * 3, generated, frozenset([stop]))
    assert [answer.answer for answer in answers] == ["ab", "aaa", ""]
    assert [answer.n_answer_tokens for answer in answers] == [2, 3, 0]
    assert [answer.is_stopped for answer in answers] == [True, False, True]
    assert answers[0].n_reference_tokens == 3  # one a letter
    assert answers[0].question == "q?"


def test_prompts_are_drawn_by_hash_and_smaller_draws_begin_larger_ones() -> None:
    rows = [
        {"row": row, "prompt": f"{kind} {row}", "reference": "r"}
        for row, kind in enumerate(["first"] * 100 + ["second"] * 100)
    ]
    drawn = draw_prompts(rows, 40)
    assert drawn == draw_prompts(rows[::-1], 40)
    assert drawn[:12] == draw_prompts(rows, 12)
    n_second = sum(row["prompt"].startswith("second") for row in drawn)
    assert 10 <= n_second <= 30  # a file sorted by kind does not matter
    assert len(draw_prompts(rows, 500)) == 200


def test_equal_prompts_are_drawn_in_the_order_of_their_rows() -> None:
    rows = [{"row": row, "prompt": "p", "reference": "r"} for row in (3, 1, 2)]
    assert [row["row"] for row in draw_prompts(rows, 2)] == [1, 2]
