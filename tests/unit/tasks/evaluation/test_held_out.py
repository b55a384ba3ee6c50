"""Measuring on pinned rows: what a tokenizer's hash covers, and models that do not fit the rows."""

from __future__ import annotations

import shutil
import weakref
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from schemas.config.evaluation import EvaluationConfig
from schemas.errors import ModelSourceError
from tasks.engine.jsonl import read_jsonl
from tasks.evaluation import _held_out
from tasks.evaluation._held_out import generation_settings, measure_held_out, tokenizer_sha256
from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer
from tests.support.processes import completions_server
from tests.support.toy import make_toy_model, write_jsonl


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("held-out") / "model")


def write_rows(folder: Path, input_ids: list[int]) -> Path:
    """Write one pinned row."""
    import pyarrow
    import pyarrow.parquet as parquet

    folder.mkdir()
    row = {"row": 0, "input_ids": input_ids, "labels": [-100, *input_ids[1:]]}
    parquet.write_table(pyarrow.Table.from_pylist([row]), folder / "eval_tokens.parquet")
    prompt = {"row": 0, "prompt": "<|im_start|>user\nhi<|im_end|>\n", "reference": "ho"}
    write_jsonl(folder / "eval_prompts.jsonl", [prompt])
    return folder


def test_measure_held_out_leaves_losses_and_answers(toy: Path, tmp_path: Path) -> None:
    quality = write_rows(tmp_path / "quality", [5, 6, 7])
    facts = measure_held_out((toy, toy), quality, EvaluationConfig(max_new_tokens=3), 1, tmp_path)
    assert (facts["n_rows"], facts["n_answers"]) == (1, 1)
    assert facts["tokenizer_sha256"] == tokenizer_sha256(load_prepared_tokenizer(toy))
    [loss] = read_jsonl(tmp_path / "losses.jsonl")
    assert loss["n_tokens"] == 2
    [answer] = read_jsonl(tmp_path / "answers.jsonl")
    assert answer["reference"] == "ho"


def test_measure_held_out_gives_no_loss_where_the_model_lacks_a_token(
    toy: Path, tmp_path: Path
) -> None:
    quality = write_rows(tmp_path / "quality", [5, 99_999])
    facts = measure_held_out((toy, toy), quality, EvaluationConfig(max_new_tokens=3), 1, tmp_path)
    assert (facts["n_rows"], facts["n_answers"]) == (0, 1)
    assert read_jsonl(tmp_path / "losses.jsonl") == []


def test_measure_held_out_says_that_a_model_cannot_be_loaded(toy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(toy, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    quality = write_rows(tmp_path / "quality", [5, 6])
    with pytest.raises(ModelSourceError, match="the model cannot be loaded") as caught:
        measure_held_out((broken, toy), quality, EvaluationConfig(), 1, tmp_path)
    assert str(broken) in caught.value.where


def test_tokenizer_sha256_covers_what_decides_the_ids(toy: Path, tmp_path: Path) -> None:
    before = tokenizer_sha256(load_prepared_tokenizer(toy))
    same, other = load_prepared_tokenizer(toy), load_prepared_tokenizer(toy)
    same.padding_side = "left"
    same.chat_template = "another"
    same(["a", "bcd"], padding=True, truncation=True, max_length=2)  # leaves both in its settings
    same.save_pretrained(tmp_path / "same")
    assert tokenizer_sha256(same) == before
    assert tokenizer_sha256(load_prepared_tokenizer(tmp_path / "same")) == before
    other.add_tokens(["wall"])
    assert tokenizer_sha256(other) != before


def test_generation_settings_leave_the_metrics_out() -> None:
    plain = generation_settings(EvaluationConfig())
    assert plain == generation_settings(EvaluationConfig(metrics=(), slices=("topic",)))
    assert plain != generation_settings(EvaluationConfig(max_new_tokens=7))
    assert plain["server"] is None


def test_generation_settings_tell_servers_apart_but_not_their_limits() -> None:
    def settings(command: str = "vllm serve {model} --port {port}", **more: object) -> object:
        server = {"command": command, **more}
        return generation_settings(EvaluationConfig.model_validate({"server": server}))

    served = settings()
    assert served != generation_settings(EvaluationConfig())
    assert served == settings(start_seconds=9, timeout_seconds=9)
    assert served != settings("sglang serve {model} --port {port}")
    assert served != settings(endpoint="chat")
    assert served != settings(parallel_requests=1)


@pytest.mark.loopback
def test_measure_held_out_lets_a_server_answer_and_measures_losses_itself(
    toy: Path, tmp_path: Path
) -> None:
    quality = write_rows(tmp_path / "quality", [5, 6, 7])
    server = {"command": completions_server("works")}
    served = EvaluationConfig.model_validate({"max_new_tokens": 12, "server": server})
    for name in ("own", "served"):
        (tmp_path / name).mkdir()
    measure_held_out((toy, toy), quality, EvaluationConfig(max_new_tokens=1), 1, tmp_path / "own")
    facts = measure_held_out((toy, toy), quality, served, 1, tmp_path / "served")
    assert (facts["n_rows"], facts["n_answers"]) == (1, 1)
    losses = [read_jsonl(tmp_path / name / "losses.jsonl") for name in ("own", "served")]
    assert losses[0] == losses[1]
    [answer] = read_jsonl(tmp_path / "served" / "answers.jsonl")
    assert answer["answer"] == "model: <|im_"
    assert not answer["is_stopped"]


@pytest.mark.parametrize("is_broken", [False, True])
def test_measure_held_out_leaves_no_model_in_memory(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    models: list[weakref.ref[object]] = []
    alive: list[bool] = []

    def load(folder: Path, device: str, **options: object) -> object:
        model = load_prepared_model(folder, device, **options)
        models.append(weakref.ref(model))
        return model

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(_held_out, "load_prepared_model", load)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(models[0]() is not None))
    if is_broken:
        monkeypatch.setattr(_held_out, "answer_prompts", fail)
    quality = write_rows(tmp_path / "quality", [5, 6, 7])
    with pytest.raises(RuntimeError, match="memory") if is_broken else nullcontext():
        measure_held_out((toy, toy), quality, EvaluationConfig(max_new_tokens=1), 1, tmp_path)
    assert alive == [False]
