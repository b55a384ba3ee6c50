"""The fine-tuning script of Hugging Face's smol-course, ported to TRL 1.16.

Source: huggingface/smol-course, 1_instruction_tuning, "SFT Fine-Tuning Example". What had to change:
`processing_class` for `tokenizer`, `eval_strategy` for `evaluation_strategy`, `use_cpu` for
`use_mps_device` (bf16 is refused on a CPU without it), no `setup_chat_format` (the model brings its template), local folders for hub ids. Everything else
is as in the course, defaults of TRL included; a callback and a collator around TRL's watch the
clock and count tokens. `--fixed` sets what a user of a CPU learns to set first: bf16=False,
gradient_checkpointing=False.

Usage: python -m benchmarks.tutorial_sft MODEL ROWS OUTPUT [--fixed] [--max-steps N]. ROWS is a
folder with train.jsonl and test.jsonl. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
FIXED = {"bf16": False, "gradient_checkpointing": False}


def speed_after_first(ends: list[tuple[float, int]]) -> float:
    """Compute the speed of the steps after the first.

    Args:
        ends: Time in seconds and tokens so far at the end of every step, at least two.

    Returns:
        Tokens per second.
    """
    (began, n_before), (ended, n_after) = ends[0], ends[-1]
    return (n_after - n_before) / (ended - began)


def watch(trainer: Any) -> tuple[list[tuple[float, int]], dict[str, int]]:
    """Watch the clock and count tokens.

    Args:
        trainer: Before training.

    Returns:
        What is filled in while it trains: time and real tokens at the end of each step, and the
        tokens of all batches with (`n_computed`) and without padding (`n_real`).
    """
    from transformers import TrainerCallback

    ends: list[tuple[float, int]] = []
    counts = {"n_computed": 0, "n_real": 0, "n_labels": 0}
    collate = trainer.data_collator

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append((time.perf_counter(), int(trainer._total_train_tokens)))

    def counting(rows: Any) -> Any:
        batch = collate(rows)
        counts["n_computed"] += batch["input_ids"].numel()
        counts["n_real"] += int(batch["attention_mask"].sum())
        counts["n_labels"] += int((batch["labels"] != -100).sum())
        return batch

    trainer.data_collator = counting
    trainer.add_callback(Clock())
    return ends, counts


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the script.

    Args:
        arguments: Of the command line.

    Returns:
        Real tokens per second after the first step, and what was counted.
    """
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = load_dataset(str(arguments.rows))
    sft_config = SFTConfig(
        output_dir=str(arguments.output / "sft_output"),
        max_steps=arguments.max_steps,
        per_device_train_batch_size=4,
        learning_rate=5e-5,
        logging_steps=10,
        save_steps=100,
        eval_strategy="steps",
        eval_steps=50,
        seed=arguments.seed,
        report_to="none",
        use_cpu=True,
        **(FIXED if arguments.fixed else {}),
    )
    trainer = SFTTrainer(
        model=model,
        args=sft_config,
        train_dataset=rows["train"],
        processing_class=tokenizer,
        eval_dataset=rows["test"],
    )
    ends, counts = watch(trainer)
    trainer.train()
    trainer.save_model(str(arguments.output / "model"))
    return {
        "tokens_per_second": speed_after_first(ends),
        "n_tokens_seen": ends[-1][1],
        "computed_per_token": counts["n_computed"] / counts["n_real"],
        "label_fraction": counts["n_labels"] / counts["n_computed"],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT_BYTES,
    }


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        words: Its words; None takes the process's own.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--max-steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args(words)


if __name__ == "__main__":
    found = train(parse_arguments())
    sys.stdout.write("\n" + json.dumps(found) + "\n")
