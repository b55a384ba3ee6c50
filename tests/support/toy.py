"""A tiny Llama with a tiny tokenizer, made on the spot: real classes, no download, quick to train."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tasks.training.process.spec import TrainingSpec

TOY_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
TOY_TRAINING_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}{{ '\n' }}"
    "{%- else -%}{{ message['content'] + '<|im_end|>' + '\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""The same with markers round what is trained: answers with their stop token."""
TOY_SETTINGS: dict[str, Any] = {
    "split": {"eval_fraction": 0.15},
    "quality": {"max_length_tokens": 256},
    "training": {
        "max_steps": 30,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 4,
        "packing_length_tokens": 128,
        "save_steps": 10,
    },
    "evaluation": {"n_generation_rows": 4, "max_new_tokens": 8},
    "gates": {"min_eval_rows": 10},
    "registry": {"name": "toy"},
}
"""Train the toy model in seconds and to a real gain."""


def make_toy_model(folder: Path, *, has_template: bool = True, seed: int = 0) -> Path:
    """Write a loadable model folder: Llama, 2 layers, 32 wide, byte-level tokenizer.

    Args:
        folder: Where to; made when missing.
        has_template: False makes a base model: no chat template and no chat tokens.
        seed: Of the initial weights.

    Returns:
        The folder.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = make_toy_tokenizer(has_template=has_template)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_toy_tokenizer(*, has_template: bool = True) -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer of 259 tokens, or 257 without a chat template.

    Args:
        has_template: Whether it has a chat template and its tokens.

    Returns:
        The tokenizer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    if has_template:
        fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
        fast.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
        fast.chat_template = TOY_TEMPLATE
    return fast


def load_toy(folder: Path) -> Any:
    """Load a toy model."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(make_toy_model(folder))


def strengthen_layers(folder: Path) -> None:
    """Let an untrained toy model answer visible text that depends on the question.

    Fresh layers hardly change what goes through them, so that the last token, a line break, comes
    again and again: every answer would be empty, and equal to any other.

    Args:
        folder: Of the model.
    """
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    for name in weights:
        if ".layers." in name and "norm" not in name:
            weights[name] *= 10
    save_file(weights, path, metadata={"format": "pt"})


def add_beginning(folder: Path) -> Path:
    """Let a toy tokenizer begin every text with a new token, and its template write that token.

    Args:
        folder: Of the model.

    Returns:
        The folder.
    """
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fast = AutoTokenizer.from_pretrained(folder)
    fast.add_special_tokens({"bos_token": "<s>"})
    fast.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", fast.bos_token_id)]
    )
    fast.chat_template = "{{ bos_token }}" + TOY_TEMPLATE
    fast.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(fast))
    model.save_pretrained(folder)
    return folder


def toy_rows(n_rows: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Make distinct prompt/completion rows that a tiny model can learn something from.

    Args:
        n_rows: How many.
        seed: Of the choice of words.

    Returns:
        Rows with `prompt`, `completion` and a `topic` column.
    """
    generator = random.Random(seed)
    colours = ["red", "green", "blue", "grey", "black", "white"]
    things = ["wall", "roof", "door", "beam", "pipe", "tile"]
    return [
        {
            "prompt": f"Item {number}: what colour is the {thing}?",
            "completion": f"Item {number} is a {generator.choice(colours)} {thing}.",
            "topic": thing,
        }
        for number in range(n_rows)
        for thing in [generator.choice(things)]
    ]


def as_messages(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Turn prompt/completion rows into `messages` rows.

    Args:
        rows: What `toy_rows` made.

    Returns:
        The same conversations in the other format.
    """
    return [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for row in rows
    ]


def write_jsonl(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> Path:
    """Write rows, one JSON object a line.

    Args:
        path: The file.
        rows: Its rows.

    Returns:
        The path.
    """
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ordinary_rows(n_rows: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Make distinct English prompt/completion rows, as a clean file for the data gate holds them.

    Args:
        n_rows: How many, at most some hundreds.
        seed: Of the choice of words.

    Returns:
        Rows with `prompt` and `completion`; none nearly repeats another or its answer.
    """
    generator = random.Random(seed)
    people = ["the mason", "our plumber", "her uncle", "the architect", "a neighbour", "my brother"]
    things = [
        "ladder",
        "blue bucket",
        "window frame",
        "drill",
        "copper pipe",
        "roof tile",
        "invoice",
    ]
    doings = ["borrowed", "repaired", "ordered", "painted", "returned", "measured", "forgot"]
    times = ["last Monday", "before the storm", "in early spring", "after lunch", "on his birthday"]
    places = [
        "behind the shed",
        "under the stairs",
        "in the cellar",
        "next to the gate",
        "upstairs",
    ]
    reasons = [
        "nobody else had the key",
        "it was too heavy to carry",
        "rain was expected that night",
    ]
    rows = []
    for number in range(n_rows):
        words = [generator.choice(choice) for choice in (people, things, doings, times)]
        person, thing, doing, time = words
        place, reason, other = (generator.choice(c) for c in (places, reasons, things))
        rows.append(
            {
                "prompt": f"Case {number}: where is the {thing} that {person} {doing} {time}?",
                "completion": f"It stands {place} beside {number + 2} parts of the {other}, "
                f"because {reason} and {generator.choice(people)} had gone home {time}.",
            }
        )
    return rows


def tokenise_toy_row(model: Path, row: int) -> dict[str, object]:
    """Render one short row with the toy template; only the answer is trained.

    Args:
        model: The toy model's folder.
        row: Its number, which decides its text.

    Returns:
        `row`, `input_ids` and `labels` (-100 = not trained).
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    letters = "abcdefghijklmnopqrstuvwxyz"
    question, answer = letters[row % 20 :][:4], letters[row % 20 + 2 :][:4]
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt_ids, answer_ids = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (prompt, f"{answer}<|im_end|>")
    )
    return {
        "row": row,
        "input_ids": prompt_ids + answer_ids,
        "labels": [-100] * len(prompt_ids) + answer_ids,
    }


def toy_spec(root: Path, name: str, **training: object) -> TrainingSpec:
    """Describe a training of the toy model on rows it can learn; model and rows are made once.

    Args:
        root: Shared by all trainings of a test.
        name: Of this training.
        training: Settings that differ from the usual ones.

    Returns:
        What `run_training` takes.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    from schemas.config.training import TrainingConfig
    from tasks.training.plan.machine import examine_machine
    from tasks.training.plan.setup import prepare_training
    from tasks.training.process.spec import TrainingSpec

    tokens = root / "tokens.parquet"
    if not tokens.exists():
        make_toy_model(root / "model")
        rows = [tokenise_toy_row(root / "model", row) for row in range(64)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tokens)
    settings = {
        "max_steps": 60,
        "save_steps": 5,
        "learning_rate": 0.01,
        "packing_length_tokens": 48,
    }
    config = TrainingConfig.model_validate(settings | training)
    setup = prepare_training(config, examine_machine(config.device), None, None)
    (root / name).mkdir()
    return TrainingSpec(
        model=root / "model",
        train_tokens=tokens,
        output=root / name,
        checkpoints=root / f"{name}-checkpoints",
        fingerprint={"name": "toy"},
        training=config,
        choices=setup.choices,
        batching=setup.batching,
        seed=3,
    )
