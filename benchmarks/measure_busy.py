"""Measure training and evaluation next to a busy process; the last line is one JSON document.

Usage: python -m benchmarks.measure_busy [--steps N] [--repeats N].

SmolLM2-135M on the construction FAQ: LoRA through the training process that the flow runs, and the
held-out losses as the flow's own process computes them. `quiet` is the speed on the machine as it
is, `busy` next to a competitor that computes all the time on one processor, both in tokens of rows
per second; `share_left` is the share of all processors' time that the competitor did not get.
Quiet and busy runs take turns, and the best of each counts.

What a user sets counts, so other settings can be compared: GOMP_SPINCOUNT=300000 is what libgomp
does by itself; OMP_WAIT_POLICY=PASSIVE and OMP_NUM_THREADS=1 are others.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure_train import SEED, run_ours, run_part
from schemas.config.training import Method
from tasks.engine.home import SPIN_VARIABLES
from tasks.engine.process_limits import allowed_processors, count_processors
from tasks.training.process.spec import EventKind, TrainingEvent

PARTS = "benchmarks._training_parts"
TARGET = 0.75
"""Of the speed that the share left of the processors would give."""
TARGET_QUIET = "compare with GOMP_SPINCOUNT=300000: no loss on a quiet machine"
SHOWN = (*SPIN_VARIABLES, "OMP_NUM_THREADS")


@contextmanager
def competitor() -> Iterator[psutil.Process]:
    """Keep one processor busy until the block ends.

    Yields:
        The process that does it.
    """
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        found = psutil.Process(process.pid)
        if processors := allowed_processors():
            found.cpu_affinity([max(processors)])
        yield found
    finally:
        process.kill()
        process.wait()


class Watch:
    """Measures, from the first step of a training to its last, what a competitor gets."""

    def __init__(self, process: psutil.Process | None) -> None:
        """Watch a process; None for a training that has no competitor."""
        self.process = process
        self.readings: list[tuple[float, float]] = []

    def __call__(self, event: TrainingEvent) -> None:
        """Read clock and processor time at every step."""
        if event.kind is EventKind.STEP and self.process:
            self.readings.append((time.perf_counter(), self.process.cpu_times().user))

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds that passed, and seconds of a processor that the competitor got."""
        if not self.readings:
            return 0.0, 0.0
        (began, before), (ended, after) = self.readings[0], self.readings[-1]
        return ended - began, after - before


def train(folder: Path, n_steps: int, process: psutil.Process | None) -> dict[str, float]:
    """Train, and measure what the competitor gets meanwhile."""
    watch = Watch(process)
    found = run_ours(folder, Method.LORA, n_steps, watch)
    shutil.rmtree(found["model"].parent)
    seconds, competitor_seconds = watch.seconds
    return {
        "tokens_per_second": found["tokens_per_second"],
        "seconds": seconds,
        "competitor_seconds": competitor_seconds,
    }


def evaluate(folder: Path, process: psutil.Process | None) -> dict[str, float]:
    """Compute held-out losses in a process that starts as the flow does."""
    watched = [str(process.pid)] if process else []
    tokens = folder / "test_tokens.parquet"
    return run_part(PARTS, "evaluate", folder / "model", tokens, *watched)


def share_left(run: dict[str, float], n_processors: int) -> float:
    """Return the share of the processors' time that the competitor did not get."""
    return 1 - run["competitor_seconds"] / (run["seconds"] * n_processors)


def summarise(
    quiet: list[dict[str, float]], busy: list[dict[str, float]], n_processors: int
) -> dict[str, Any]:
    """Compare the fastest runs.

    Args:
        quiet: Runs without a competitor: `tokens_per_second`.
        busy: Runs with one, also `seconds` and `competitor_seconds`.
        n_processors: That this process may use.

    Returns:
        `quiet` and `busy` in tokens per second, `share_left`, `kept` (busy over quiet),
        `of_share_left` (kept over share_left), and whether that meets the target.
    """
    alone, best = (max(runs, key=lambda run: run["tokens_per_second"]) for runs in (quiet, busy))
    left = share_left(best, n_processors)
    kept = best["tokens_per_second"] / alone["tokens_per_second"]
    return {
        "quiet": alone["tokens_per_second"],
        "busy": best["tokens_per_second"],
        "share_left": left,
        "kept": kept,
        "of_share_left": kept / left,
        "is_met": kept >= TARGET * left,
    }


def measure(folder: Path, n_steps: int, n_repeats: int) -> dict[str, Any]:
    """Run everything, and return the results."""
    run_part(PARTS, "prepare", folder, str(SEED))
    runs: dict[str, list[dict[str, float]]] = {
        name: [] for name in ("train", "train_busy", "evaluate", "evaluate_busy")
    }
    for _ in range(n_repeats):
        runs["train"].append(train(folder, n_steps, None))
        runs["evaluate"].append(evaluate(folder, None))
        with competitor() as process:
            runs["train_busy"].append(train(folder, n_steps, process))
            runs["evaluate_busy"].append(evaluate(folder, process))
    n_processors = count_processors()
    return {
        **summarise(runs["train"], runs["train_busy"], n_processors),
        "evaluation": summarise(runs["evaluate"], runs["evaluate_busy"], n_processors),
        "n_processors": n_processors,
        "load_before": os.getloadavg()[0],
        "settings": {name: os.environ[name] for name in SHOWN if name in os.environ},
    }


def table(results: dict[str, Any]) -> str:
    """Format the results: one line for training, one for evaluation."""
    lines = [f"{'tokens/s':22} {'quiet':>8} {'busy':>8} {'kept':>7} {'share left':>11}"]
    for name, run in (("LoRA training", results), ("evaluation", results["evaluation"])):
        mark = "met" if run["is_met"] else "MISSED"
        lines.append(
            f"{name:22} {run['quiet']:8.1f} {run['busy']:8.1f} {run['kept']:7.0%} "
            f"{run['share_left']:11.0%}   kept at least {TARGET:.0%} of the share left: {mark}"
        )
    return "\n".join([*lines, TARGET_QUIET]) + "\n"


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        words: Its words; None takes the process's own.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    return parser.parse_args(words)


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="sft-flow-busy-") as folder:
        results = measure(Path(folder), arguments.steps, arguments.repeats)
    sys.stdout.write(table(results) + json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
