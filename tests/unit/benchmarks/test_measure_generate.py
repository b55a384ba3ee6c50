"""The benchmark of generation: what it counts, and when a difference is a tie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.measure_generate import (
    Generated,
    Served,
    ask,
    compare,
    explain_difference,
    generate,
    measure,
    report,
)
from schemas.config.evaluation import EvaluationConfig
from tasks.models.prepared import load_prepared_model
from tests.support.processes import completions_server
from tests.support.toy import make_toy_model

PROMPT = [5, 6, 7]


def test_tokens_per_second_counts_answers_without_padding() -> None:
    assert Generated([[1, 2], [3]], 1.5).tokens_per_second == 2.0


def test_explain_difference_finds_the_first_token_and_the_gap(tmp_path: Path) -> None:
    import torch

    model = load_prepared_model(make_toy_model(tmp_path / "model"), "cpu").eval()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*PROMPT, 9]])).logits[0, -1]
    high, low = int(logits.argmax()), int(logits.argmin())
    found = explain_difference(model, PROMPT, [9, high, 4], [9, low, 4])
    assert found["place"] == 1
    assert found["gap_logits"] == pytest.approx(float(logits[high] - logits[low]), abs=1e-5)
    assert not found["is_tie"]


def test_explain_difference_knows_a_tie(tmp_path: Path) -> None:
    model = load_prepared_model(make_toy_model(tmp_path / "model"), "cpu").eval()
    weights = model.get_input_embeddings().weight
    weights.data[11] = weights.data[12]
    found = explain_difference(model, PROMPT, [11], [12])
    assert found == {"place": 0, "gap_logits": pytest.approx(0.0, abs=1e-6), "is_tie": True}


def test_compare_names_only_answers_that_differ(tmp_path: Path) -> None:
    model = load_prepared_model(make_toy_model(tmp_path / "model"), "cpu").eval()
    single = Generated([[9, 8], [9]], 1.0)
    batched = Generated([[9, 8], [8]], 1.0)
    assert [found["prompt"] for found in compare(model, [PROMPT, PROMPT], single, batched)] == [1]
    assert compare(model, [PROMPT, PROMPT], single, single) == []


def test_measure_answers_alike_in_both_ways_and_in_the_order_given(tmp_path: Path) -> None:
    model = load_prepared_model(make_toy_model(tmp_path / "model"), "cpu").eval()
    prompts = [[5], [6, 7, 8], [9, 10]]
    evaluation = EvaluationConfig(max_new_tokens=2, generation_batch_size=2)
    single, batched = measure(model, prompts, evaluation)
    assert single.answers == batched.answers
    assert single.answers == generate(model, prompts, evaluation).answers
    assert min(single.seconds, batched.seconds) > 0


def test_report_ends_with_the_figures() -> None:
    found = {"prompt": 1, "place": 0, "gap_logits": 1e-5, "is_tie": True}
    text = report(Generated([[1], [2]], 4.0), Generated([[1], [3]], 1.0), [found])
    figures = json.loads(text.splitlines()[-1])
    assert figures["batched_vs_single"] == 4.0
    assert (figures["n_different"], figures["n_ties"], figures["n_prompts"]) == (1, 1, 2)


def test_report_compares_a_server_with_the_batches() -> None:
    served = Served(["a", "c"], n_tokens=4, seconds=2.0, start_seconds=9.0)
    ours = Generated([[1], [3]], 1.0)
    figures = json.loads(report(ours, ours, [], served, ["a", "b"]).splitlines()[-1])
    assert (figures["server_tokens_per_second"], figures["server_vs_batched"]) == (2.0, 1.0)
    assert figures["n_different_from_server"] == 1


@pytest.mark.loopback
def test_ask_counts_what_the_server_generated(tmp_path: Path) -> None:
    model = make_toy_model(tmp_path / "model")
    rows = [{"row": n, "prompt": f"{n:05d} walls", "reference": "x"} for n in range(2)]
    server = {"command": completions_server("works")}
    settings = {"max_new_tokens": 12, "server": server}
    served = ask(model, rows, EvaluationConfig.model_validate(settings))
    assert served
    assert (served.answers, served.n_tokens) == (["model: 00000", "model: 00001"], 24)
    assert min(served.seconds, served.start_seconds) > 0
    assert ask(model, rows, EvaluationConfig()) is None


def test_generate_leaves_padding_out(tmp_path: Path) -> None:
    model = load_prepared_model(make_toy_model(tmp_path / "model"), "cpu").eval()
    evaluation = EvaluationConfig(max_new_tokens=3, generation_batch_size=2)
    free = generate(model, [PROMPT, [8]], evaluation)
    assert [len(answer) for answer in free.answers] == [3, 3]
    model.generation_config.eos_token_id = [free.answers[0][0]]
    stopped = generate(model, [PROMPT, [8]], evaluation)
    assert stopped.answers[0] == free.answers[0][:1]
    assert stopped.seconds > 0
