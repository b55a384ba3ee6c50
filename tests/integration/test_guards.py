"""Guards in the training process: named errors, never retried, and what was trained is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import (
    LossNotFinite,
    NoLabels,
    NothingLearned,
    SftFlowError,
    TrainingContractBroken,
    is_retryable,
)
from tasks.training.launch import run_training
from tasks.training.process.checkpoints import find_fault, list_checkpoints
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec
from tests.support.toy import toy_spec

pytestmark = pytest.mark.integration

N_ROWS = 24
ANSWERS = ("red wall", "grey roof", "blue door")
ODD_ROW = 7
"""The only row with a letter that is not ASCII."""

Row = dict[str, Any]


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def chat_rows(folder: Path, answers: tuple[str, ...] = ANSWERS) -> list[Row]:
    """Tokenise rows as the data gate does: the answer and its stop token are trained."""
    tokenizer = load_tokenizer(folder)
    rows = []
    for row in range(N_ROWS):
        question = {"role": "user", "content": f"{row}{'ö' if row == ODD_ROW else 'o'}?"}
        prompt = tokenizer.apply_chat_template(
            [question], add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer(answers[row % len(answers)] + "<|im_end|>")["input_ids"]
        labels = [-100] * len(prompt) + answer
        rows.append({"row": row, "input_ids": prompt + answer, "labels": labels})
    return rows


def write_rows(path: Path, rows: list[Row]) -> Path:
    import pyarrow
    from pyarrow import parquet

    tokens = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema([("row", pyarrow.int64()), ("input_ids", tokens), ("labels", tokens)])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)
    return path


def chat_spec(root: Path, **training: Any) -> TrainingSpec:
    settings = {"packing": False, "save_steps": 100, "max_steps": N_ROWS} | training
    spec = toy_spec(root, "guarded", **settings)
    write_rows(spec.train_tokens, chat_rows(spec.model))
    return spec


def refused(spec: TrainingSpec, error: type[SftFlowError]) -> tuple[SftFlowError, list[EventKind]]:
    """Run a training that a guard ends; return the error and the kinds of the events."""
    events: list[TrainingEvent] = []
    with pytest.raises(error) as caught:
        run_training(spec, events.append)
    assert type(caught.value) is error
    assert not is_retryable(caught.value)
    assert caught.value.fix
    kinds = [event.kind for event in events]
    assert kinds.count(EventKind.FAILED) == 1
    assert kinds.count(EventKind.STARTED) <= 1  # not tried again
    assert not (spec.output / "model").exists()
    return caught.value, kinds


def poison(model: Path, letter: str) -> None:
    """Make the embedding of a letter NaN, and only that: the head gets weights of its own."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model)
    network.lm_head.weight = torch.nn.Parameter(network.lm_head.weight.detach().clone())
    network.config.tie_word_embeddings = False
    [token] = set(load_tokenizer(model)(letter)["input_ids"]) - set(
        load_tokenizer(model)("é")["input_ids"]
    )
    network.model.embed_tokens.weight.data[token] = float("nan")
    network.save_pretrained(model)


def test_loss_that_becomes_nan_names_its_row_and_keeps_the_steps_before(tmp_path: Path) -> None:
    spec = chat_spec(tmp_path)
    poison(spec.model, "ö")
    error, kinds = refused(spec, LossNotFinite)
    assert f"training rows {ODD_ROW}" in str(error)
    n_good_steps = kinds.count(EventKind.STEP)
    assert 0 < n_good_steps < N_ROWS
    [kept] = list_checkpoints(spec.checkpoints)
    assert kept.name == f"checkpoint-{n_good_steps}"
    assert find_fault(kept, spec.fingerprint) == ""


def test_row_without_labels_ends_the_training_before_its_first_step(tmp_path: Path) -> None:
    spec = chat_spec(tmp_path)
    rows = chat_rows(spec.model)
    rows[3]["labels"] = [-100] * len(rows[3]["labels"])
    write_rows(spec.train_tokens, rows)
    error, kinds = refused(spec, NoLabels)
    assert "training row 3" in str(error)
    assert EventKind.STEP not in kinds


def test_row_without_a_trained_stop_token_breaks_the_contract(tmp_path: Path) -> None:
    spec = chat_spec(tmp_path)
    rows = chat_rows(spec.model)
    rows[5]["labels"][-1] = -100
    write_rows(spec.train_tokens, rows)
    error, kinds = refused(spec, TrainingContractBroken)
    assert "training row 5" in str(error)
    assert EventKind.STEP not in kinds


def test_training_that_learns_nothing_says_so_again_when_run_again(tmp_path: Path) -> None:
    spec = chat_spec(tmp_path, learning_rate=1e-30, eval_steps=5, max_steps=10)
    spec = spec.model_copy(update={"validation_tokens": spec.train_tokens})
    refused(spec, NothingLearned)
    kept = [path.name for path in list_checkpoints(spec.checkpoints)]
    assert kept[-1] == "checkpoint-10"
    error, kinds = refused(spec, NothingLearned)
    assert "never fell below" in str(error)
    assert EventKind.STEP not in kinds


def test_rising_validation_loss_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    spec = chat_spec(
        tmp_path,
        learning_rate=0.02,
        lr_scheduler_type="constant",
        eval_steps=4,
        early_stopping={"patience": 2},
        max_steps=400,
        save_total_limit=1,
    )
    others = write_rows(tmp_path / "others.parquet", chat_rows(spec.model, (*ANSWERS[::-1], "x")))
    spec = spec.model_copy(update={"validation_tokens": others})
    events: list[TrainingEvent] = []
    facts = run_training(spec, events.append)
    assert facts.n_steps < 400
    assert facts.best_step is not None
    assert 0 < facts.best_step == facts.n_steps - 8
    measured = {e.step: e.loss for e in events if e.kind is EventKind.MEASURED}
    assert facts.best_validation_loss == pytest.approx(min(filter(None, measured.values())))
    notes = [event.detail for event in events if event.kind is EventKind.NOTE]
    assert any(f"it was lowest at step {facts.best_step}" in note for note in notes)
    kept = [path.name for path in list_checkpoints(spec.checkpoints)]
    assert f"checkpoint-{facts.best_step}" in kept
