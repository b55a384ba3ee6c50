"""Compare ways to train on the same rows, and print one JSON document as the last line.

Usage: python -m benchmarks.measure_train [--steps N] [--slow-steps N] [--repeats N] [--no-command].

SmolLM2-135M on the construction FAQ: `stock` is the tutorial script with TRL's defaults, `fixed`
the same with bf16=False and gradient_checkpointing=False, `full` and `lora` are ours through the
training process that the flow runs, `command` is `trl sft` with the stock settings. Speed is real
tokens of rows per second after the first step, padding not counted; ours computes a prefix that
rows share once a sequence, so `computed_per_token` says how many tokens go through the model for
each. `fixed`, `full` and `lora` take turns and the best of each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._training_results import Work, gemm_share, summary, table
from benchmarks.tutorial_sft import speed_after_first
from schemas.config.training import Method, TrainingConfig
from tasks.engine.home import SPIN_COUNT, SPIN_VARIABLES, source_folder
from tasks.models.shape import read_model_shape
from tasks.training.launch import Listener, run_training
from tasks.training.plan.machine import examine_machine
from tasks.training.plan.setup import prepare_training, read_workload
from tasks.training.process.spec import TrainingFacts, TrainingSpec

SEED = 42
LEARNING_RATE = 5e-5
"""The tutorial's."""
ADAPTER_PARAMETERS = 4_884_480
"""LoRA with r=16 on every linear layer of SmolLM2-135M."""
LOGGED_STEP = re.compile(r"num_tokens")


def run_part(module: str, *words: str | Path) -> dict[str, Any]:
    """Run a module in a process of its own and read the JSON document it ends with.

    Args:
        module: Its dotted name.
        *words: Its arguments.

    Returns:
        The document.

    Raises:
        SystemExit: It failed.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise SystemExit(f"{module} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def environment() -> dict[str, str]:
    """Make the environment of others: the user's own, without network."""
    root = str(source_folder())
    spin = SPIN_VARIABLES[0]
    users = {k: v for k, v in os.environ.items() if (k, v) != (spin, SPIN_COUNT)}
    return {**users, "HF_HUB_OFFLINE": "1", "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}


def run_script(folder: Path, name: str, n_steps: int) -> dict[str, Any]:
    """Run the tutorial script.

    Args:
        folder: What `prepare` filled.
        name: stock or fixed.
        n_steps: Optimiser steps.

    Returns:
        What it measured, and `model`, the folder it saved.
    """
    output = Path(tempfile.mkdtemp(prefix=name, dir=folder))
    options = [f"--max-steps={n_steps}", f"--seed={SEED}", *(["--fixed"] * (name == "fixed"))]
    found = run_part("benchmarks.tutorial_sft", folder / "model", folder / "rows", output, *options)
    return {**found, "model": output / "model"}


def run_ours(
    folder: Path, method: Method, n_steps: int, listen: Listener = lambda _: None
) -> dict[str, Any]:
    """Train as the flow does.

    Args:
        folder: What `prepare` filled.
        method: Which weights to train.
        n_steps: Optimiser steps.
        listen: Gets every event of the training process.

    Returns:
        What the training process measured, and `model`, the folder it saved.
    """
    training = TrainingConfig(
        method=method,
        max_steps=n_steps,
        learning_rate=LEARNING_RATE,
        warmup_ratio=0.0,  # the tutorial's schedule
        lr_scheduler_type="linear",
        save_steps=100,
    )
    tokens = folder / "train_tokens.parquet"
    setup = prepare_training(
        training,
        examine_machine(training.device),
        read_model_shape(folder / "model"),
        read_workload(tokens),
    )
    output = Path(tempfile.mkdtemp(prefix=method, dir=folder))
    spec = TrainingSpec(
        model=folder / "model",
        train_tokens=tokens,
        output=output,
        checkpoints=output / "checkpoints",
        fingerprint={},
        training=training,
        choices=setup.choices,
        batching=setup.batching,
        seed=SEED,
    )
    facts: TrainingFacts = run_training(spec, listen)
    return {
        "tokens_per_second": facts.tokens_per_second,
        "n_tokens_seen": facts.n_tokens_seen,
        "peak_memory_bytes": facts.peak_memory_bytes,
        "model": output / "model",
    }


def run_command(folder: Path, n_steps: int) -> dict[str, Any]:
    """Run `trl sft` with the stock settings; it logs every step, so that the steps can be timed.

    Args:
        folder: What `prepare` filled.
        n_steps: Optimiser steps.

    Returns:
        Real tokens per second after the first step.

    Raises:
        SystemExit: It failed.
    """
    output = Path(tempfile.mkdtemp(prefix="command", dir=folder))
    options = {
        "model_name_or_path": folder / "model",
        "dataset_name": folder / "rows",
        "output_dir": output,
        "max_steps": n_steps,
        "per_device_train_batch_size": 4,
        "learning_rate": LEARNING_RATE,
        "logging_steps": 1,
        "save_steps": n_steps,
        "report_to": "none",
        "use_cpu": True,
        "seed": SEED,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    program = str(Path(sys.executable).with_name("trl"))
    log = output / "command.log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [program, "sft", *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(),
        )
        ends = [time.perf_counter() for line in process.stdout or () if LOGGED_STEP.search(line)]
    if process.wait():
        raise SystemExit(f"trl sft failed:\n{log.read_text(encoding='utf-8')[-4000:]}")
    state_path = output / f"checkpoint-{n_steps}" / "trainer_state.json"
    history = json.loads(state_path.read_text(encoding="utf-8"))["log_history"]
    counts = [int(entry["num_tokens"]) for entry in history if "loss" in entry]
    steps = list(zip(ends, counts, strict=False))
    return {"tokens_per_second": speed_after_first(steps), "n_tokens_seen": counts[-1]}


def best(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pick the fastest of several runs: what else the machine does only ever slows one down."""
    return max(runs, key=lambda run: float(run["tokens_per_second"]))


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all parts, and return the results."""
    parts = "benchmarks._training_parts"
    data = run_part(parts, "prepare", folder, str(SEED))
    packed = run_part(parts, "pack", folder, str(TrainingConfig().packing_length_tokens))
    gemm = [run_part(parts, "gemm", folder)["flop_per_second"]]
    runs: dict[str, list[dict[str, Any]]] = {"fixed": [], "full": [], "lora": []}
    runs["stock"] = [run_script(folder, "stock", arguments.slow_steps)]
    if arguments.command:
        runs["command"] = [run_command(folder, arguments.slow_steps)]
    for _ in range(arguments.repeats):
        runs["fixed"].append(run_script(folder, "fixed", arguments.steps))
        # As many steps as make the same number of row tokens.
        per_step = data["n_tokens"] / packed["n_sequences"]
        n_steps = max(2, round(runs["fixed"][0]["n_tokens_seen"] / per_step))
        runs["full"].append(run_ours(folder, Method.FULL, n_steps))
        runs["lora"].append(run_ours(folder, Method.LORA, n_steps))
    gemm.append(run_part(parts, "gemm", folder)["flop_per_second"])
    found = {name: best(each) for name, each in runs.items()}
    for name in ("fixed", "full"):
        tokens = folder / "test_tokens.parquet"
        found[name]["loss"] = run_part(parts, "losses", found[name]["model"], tokens)["loss"]
    ours = {
        "computed_per_token": packed["computed_per_token"],
        "label_fraction": data["n_labels"] / data["n_tokens"] / packed["computed_per_token"],
    }
    script = {name: found["stock"][name] for name in ("computed_per_token", "label_fraction")}
    for name, run in found.items():
        run.update(ours if name in ("full", "lora") else script if name == "command" else {})
        work = Work(
            n_body=data["n_parameters"] - data["n_head_parameters"],
            n_head=data["n_head_parameters"],
            n_adapter=ADAPTER_PARAMETERS if name == "lora" else 0,
        )
        run["gemm_share"] = gemm_share(run, work, max(gemm))
        run.pop("model", None)
    return summary(found) | {"gemm_gflop_per_second": max(gemm) / 1e9, "data": data}


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        words: Its words; None takes the process's own.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16, help="of `fixed`; ours see as many tokens")
    parser.add_argument("--slow-steps", type=int, default=2, help="of `stock` and `command`")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--no-command", dest="command", action="store_false")
    return parser.parse_args(words)


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="sft-flow-train-") as folder:
        figures = measure(Path(folder), arguments)
    sys.stdout.write(table(figures) + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
