"""Make a history to draw: retrains of a tiny model on rows that grow, turn bad or stay the same.

Usage: SFT_HOME=FOLDER python -m benchmarks.make_history. Runs the flow `retrain` for every entry of
PLAN under one registered name, evaluated on the same pinned rows, and prints the outcome of each.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.services.temporary_server import prefect_api
from schemas.config.run import RunConfig
from schemas.errors import DataRejected
from tasks.engine.home import work_directory

NAME = "item-colours"
COLOURS = ("red", "green", "blue", "grey", "black", "white")
THINGS = ("wall", "roof", "door", "beam", "pipe", "tile")
EVAL_ROWS = range(10_000, 10_060)
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
PLAN: tuple[tuple[str, int, int, float], ...] = (
    ("first training", 160, 10, 0.0),
    ("more rows", 260, 20, 0.0),
    ("the same rows again", 260, 20, 0.0),
    ("letters of the answers shuffled", 261, 20, 1.0),
    ("half of the answers empty", 400, 20, 0.5),
    ("fewer steps", 262, 12, 0.0),
    ("twice the rows", 520, 40, 0.0),
)
"""What happens, rows, steps of the training, and the fraction of bad rows: empty answers, or
shuffled letters where it is 1."""


def make_model(folder: Path) -> None:
    """Write an untrained Llama, 2 layers and 32 wide, with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    shape = LlamaConfig(
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
    LlamaForCausalLM(shape).save_pretrained(folder)
    fast.save_pretrained(folder)


def write_rows(path: Path, numbers: Sequence[int], bad_fraction: float = 0.0) -> Path:
    """Write distinct questions and answers, one JSON object per line.

    Args:
        path: The file.
        numbers: Of the items that the rows are about.
        bad_fraction: Of empty answers; 1: the letters of every answer are shuffled.

    Returns:
        The path.
    """
    rows = []
    for number in numbers:
        choice = random.Random(number)  # noqa: S311 - the same rows each time, no secret
        thing, colour = choice.choice(THINGS), choice.choice(COLOURS)
        is_empty = bad_fraction < 1 and choice.random() < bad_fraction
        answer = "" if is_empty else f"Item {number} is a {colour} {thing}."
        if bad_fraction == 1:
            answer = "".join(choice.sample(answer, len(answer)))
        rows.append({"prompt": f"Item {number}: what colour is the {thing}?", "completion": answer})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def make_config(model: Path, rows: Path, pinned: Path, n_steps: int) -> RunConfig:
    """Return a configuration that trains the tiny model within seconds."""
    settings: dict[str, Any] = {
        "data": {"source": {"source": str(rows)}},
        "split": {"pinned": {"source": str(pinned)}},
        "model": {"source": str(model)},
        "quality": {"max_length_tokens": 256},
        "training": {
            "max_steps": n_steps,
            "learning_rate": 0.01,
            "per_device_train_batch_size": 4,
            "packing_length_tokens": 128,
        },
        "evaluation": {"n_generation_rows": 4, "max_new_tokens": 8},
        "gates": {"min_eval_rows": 10},
        "registry": {"name": NAME},
    }
    return RunConfig.model_validate(settings)


def retrain(config: RunConfig) -> str:
    """Run the flow once and return promote, refuse, skipped or rejected."""
    from flows.retrain_model import retrain_model
    from schemas.records.references import ReportReference

    try:
        found = retrain_model(config)
    except DataRejected:
        return "data rejected"
    return found.decision.value if isinstance(found, ReportReference) else "no reason to train"


def main() -> None:
    """Make the model and run the plan."""
    folder = work_directory().absolute() / "retrains"
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder / "model")
    pinned = write_rows(folder / "eval.jsonl", EVAL_ROWS)
    with prefect_api():
        for what, n_rows, n_steps, bad_fraction in PLAN:
            rows = write_rows(folder / "rows.jsonl", range(n_rows), bad_fraction)
            outcome = retrain(make_config(folder / "model", rows, pinned, n_steps))
            sys.stdout.write(f"{what}: {outcome}\n")


if __name__ == "__main__":
    main()
