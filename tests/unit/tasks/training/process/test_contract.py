"""The contract on real rows: kept by rows the gate rendered, broken by one change at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.config.training import TrainingConfig
from schemas.errors import NoLabels, TrainingContractBroken, is_retryable
from schemas.rows.row import Conversation, RowFormat
from tasks.engine.jsonl import json_line
from tasks.tokens.rendering import Renderer, load_renderer, render_prompt, render_rows
from tasks.training.plan.batching import Batching
from tasks.training.plan.choices import choose
from tasks.training.plan.machine import Machine
from tasks.training.process._contract import check_contract, check_padding, read_rules
from tasks.training.process.spec import TrainingSpec
from tests.support.toy import TOY_TRAINING_TEMPLATE, make_toy_model

N_ROWS = 5
IM_START = 257
"""Of the toy tokenizer."""

PAD = 2
STOP = 9
ROWS = [
    {"input_ids": [5, 6, 7, STOP, STOP], "labels": [-100, -100, -100, STOP, STOP]},
    {"input_ids": [5, STOP], "labels": [-100, STOP]},
    {"input_ids": [5, 6, STOP], "labels": [-100, 6, STOP]},
]


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "training_template.jinja").write_text(TOY_TRAINING_TEMPLATE)
    return load_renderer(make_toy_model(folder / "model"), folder / "training_template.jinja")


def conversation(row: int) -> Conversation:
    turns = ["How tall?", f"About {row} metres.", "Sure?", "Yes."][: 4 if row % 2 else 2]
    messages = [
        {"role": "assistant" if place % 2 else "user", "content": text}
        for place, text in enumerate(turns)
    ]
    return Conversation("a.jsonl", row + 1, RowFormat.MESSAGES, messages, None, None, {})


Row = dict[str, Any]


def make_rows(renderer: Renderer) -> list[Row]:
    conversations = [conversation(row) for row in range(N_ROWS)]
    return [
        {"row": 10 * row, "input_ids": rendered.input_ids, "labels": rendered.labels}
        for row, (_, rendered) in enumerate(render_rows(renderer, conversations))
    ]


def make_prompts(renderer: Renderer) -> list[Row]:
    return [
        {"row": 10 * row, "prompt": render_prompt(renderer, conversation(row))["prompt"]}
        for row in range(N_ROWS)
    ]


def write_spec(
    folder: Path, renderer: Renderer, rows: list[Row], prompts: list[Row] | None
) -> TrainingSpec:
    import pyarrow
    from pyarrow import parquet

    tokens = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema([("row", pyarrow.int64()), ("input_ids", tokens), ("labels", tokens)])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), folder / "tokens.parquet")
    path = folder / "train_prompts.jsonl"
    path.write_text("".join(map(json_line, prompts or [])))
    return TrainingSpec(
        model=Path(renderer.tokenizer.name_or_path),
        train_tokens=folder / "tokens.parquet",
        inference_prompts=path if prompts else None,
        output=folder,
        checkpoints=folder,
        fingerprint={},
        training=TrainingConfig(),
        choices=choose(TrainingConfig(), Machine(device="cpu", free_memory_bytes=1), False, None),
        batching=Batching(per_device=1, accumulation=1),
        seed=0,
    )


def check(
    folder: Path, renderer: Renderer, rows: list[Row], prompts: list[Row] | None = None
) -> None:
    spec = write_spec(folder, renderer, rows, prompts or make_prompts(renderer))
    check_contract(spec, renderer.tokenizer)


def test_read_rules_finds_what_opens_an_answer(renderer: Renderer) -> None:
    rules = read_rules(Path(renderer.tokenizer.name_or_path), renderer.tokenizer)
    assert rules.marker == "<|im_start|>assistant"
    assert rules.stop_ids == {renderer.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert not rules.has_bos_per_turn


def test_read_rules_takes_the_end_of_the_question_where_nothing_opens_an_answer(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    inst = "{% for m in messages %}{{ m.content + (' [/INST] ' if m.role == 'user' else '') }}{% endfor %}"
    monkeypatch.setattr(renderer.tokenizer, "chat_template", inst)
    rules = read_rules(Path(renderer.tokenizer.name_or_path), renderer.tokenizer)
    assert rules.marker == "[/INST]"


def test_check_contract_accepts_what_the_gate_rendered(renderer: Renderer, tmp_path: Path) -> None:
    check(tmp_path, renderer, make_rows(renderer))
    spec = write_spec(tmp_path, renderer, make_rows(renderer), None)
    check_contract(spec, renderer.tokenizer)
    damaged = make_rows(renderer)
    damaged[-1]["labels"][-1] = -100 if damaged[-1]["labels"][-1] != -100 else 0
    spec = write_spec(tmp_path, renderer, damaged, None)
    with pytest.raises(TrainingContractBroken):
        check_contract(spec, renderer.tokenizer)


def drop_labels(row: Row) -> None:
    row["labels"] = [-100] * len(row["labels"])


def move_labels(row: Row) -> None:
    row["labels"] = [*row["labels"][1:], -100]


def drop_stop(row: Row) -> None:
    last = max(place for place, label in enumerate(row["labels"]) if label != -100)
    row["labels"][last] = -100


def drop_marker(row: Row) -> None:
    row["input_ids"] = [42 if token == IM_START else token for token in row["input_ids"]]


def change_prompt(row: Row) -> None:
    row["input_ids"][12] = 42


def start_late(row: Row) -> None:
    ends = [label != -100 for label in row["labels"]]
    last_start = max(place for place in range(1, len(ends)) if ends[place] and not ends[place - 1])
    row["labels"][last_start] = -100


@pytest.mark.parametrize(
    ("change", "problem", "got"),
    [
        (move_labels, "a label differs from its token", "'A'"),
        (drop_stop, "would not learn to stop", "'.'"),
        (drop_marker, "lacks the template's role markers", "user"),
        (change_prompt, "they differ at token 12", "'"),
        (start_late, "the trained answer are not trained", "'Y'"),
    ],
)
def test_check_contract_names_the_row_and_what_is_wrong(
    renderer: Renderer, tmp_path: Path, change: Callable[[Row], None], problem: str, got: str
) -> None:
    rows = make_rows(renderer)
    change(rows[3])
    with pytest.raises(TrainingContractBroken, match=problem) as caught:
        check(tmp_path, renderer, rows)
    assert caught.value.where == "training row 30"
    assert got in caught.value.got
    assert caught.value.fix
    assert not is_retryable(caught.value)


def test_check_contract_refuses_a_row_without_labels(renderer: Renderer, tmp_path: Path) -> None:
    rows = make_rows(renderer)
    drop_labels(rows[4])
    with pytest.raises(NoLabels, match="no_supervised_tokens") as caught:
        check(tmp_path, renderer, rows)
    assert caught.value.where == "training row 40"


def test_check_contract_refuses_prompts_of_other_rows(renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(TrainingContractBroken, match="none of the prompts"):
        check(tmp_path, renderer, make_rows(renderer), [{"row": 7, "prompt": "?"}])


def test_check_contract_compares_with_the_template_of_inference(
    renderer: Renderer, tmp_path: Path
) -> None:
    prompts = make_prompts(renderer)
    prompts[2]["prompt"] += "<think>"
    with pytest.raises(
        TrainingContractBroken, match="does not begin with the prompt of inference"
    ) as caught:
        check(tmp_path, renderer, make_rows(renderer), prompts)
    assert "<think>" in caught.value.expected


@pytest.mark.parametrize("token", ["<|im_start|>", "x"])
def test_check_contract_refuses_bos_tokens_behind_the_start(
    renderer: Renderer, tmp_path: Path, token: str
) -> None:
    rows = make_rows(renderer)
    # This template opens every turn with <|im_start|>, which is no fault; two in a row are one.
    renderer = replace(renderer, tokenizer=copy.deepcopy(renderer.tokenizer))
    renderer.tokenizer.bos_token = token
    check(tmp_path, renderer, rows)
    bos = renderer.tokenizer.convert_tokens_to_ids(token)
    for side in ("input_ids", "labels"):
        rows[1][side] = [bos if side == "input_ids" else -100, *rows[1][side]]
    if token == "x":
        check_bos_only_at_start(tmp_path, renderer, rows)
        return
    with pytest.raises(TrainingContractBroken, match="BOS token comes after") as caught:
        check(tmp_path, renderer, rows)
    assert caught.value.where == "training row 10"


def check_bos_only_at_start(folder: Path, renderer: Renderer, rows: list[Row]) -> None:
    """One BOS token at the start is right, one in the middle is not."""
    prompts = [line for line in make_prompts(renderer) if line["row"] != 10]
    check(folder, renderer, rows, prompts)
    rows[2]["input_ids"][5] = renderer.tokenizer.bos_token_id
    with pytest.raises(TrainingContractBroken, match="BOS token comes after") as caught:
        check(folder, renderer, rows, prompts)
    assert caught.value.where == "training row 20"


def collator(pad: int, *, is_flat: bool = False) -> Any:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=is_flat)


@pytest.mark.parametrize("pad", [PAD, STOP])
@pytest.mark.parametrize("is_flat", [False, True])
def test_check_padding_accepts_the_collator_of_trl(pad: int, is_flat: bool) -> None:
    collate = collator(pad, is_flat=is_flat)
    assert collate(ROWS)["input_ids"].shape == ((1, 10) if is_flat else (3, 5))
    check_padding(collate, ROWS)


def test_check_padding_accepts_packed_rows_whose_first_tokens_have_labels() -> None:
    packed = {"input_ids": [5, 6, 5, 7], "labels": [5, 6, 5, 7], "seq_lengths": [2, 2]}
    for collate in (collator(PAD, is_flat=True), collator(PAD)):
        check_padding(collate, [packed])
    # The flat collator takes the label of each packed row's first token; the other one does not.
    taken = [collator(PAD, is_flat=flat)([packed])["labels"].tolist() for flat in (True, False)]
    assert taken == [[[-100, 6, -100, 7]], [[5, 6, 5, 7]]]


def test_check_padding_refuses_trained_padding() -> None:
    class Pads:
        """Pads labels with the stop token, as collators do that copy the padded ids."""

        def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = collator(STOP)(rows)
            batch["labels"][batch["attention_mask"] == 0] = STOP
            return batch

    with pytest.raises(TrainingContractBroken) as caught:
        check_padding(Pads(), ROWS)
    assert caught.value.where == "Pads"
    assert caught.value.expected == "3 trained tokens"
    assert caught.value.got == "6, or other ones"


def test_check_padding_refuses_labels_that_moved() -> None:
    def moved(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collator(PAD)(rows)
        return batch | {"labels": batch["labels"].roll(1)}

    with pytest.raises(TrainingContractBroken):
        check_padding(moved, ROWS)
