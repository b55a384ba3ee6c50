"""Estimate how many steps a training takes and how fast it runs on this machine."""

from __future__ import annotations

import json
import math

from schemas.config.training import Method, TrainingConfig
from schemas.records.stages import Stage
from tasks.engine.home import work_directory
from tasks.training.plan.batching import effective_batch
from tasks.training.plan.shared_prefix import SHARED_SHARE

MEASURED_TOKENS_PER_SECOND = {Method.LORA: 150.0, Method.QLORA: 150.0, Method.FULL: 100.0}
"""SmolLM2-135M, packed to 512 tokens, two CPU cores; QLoRA taken to be like LoRA."""
MEASURED_PARAMETERS = 134_515_008


def expected_speed(
    training: TrainingConfig, n_parameters: int | None, device: str = ""
) -> tuple[float, str]:
    """Return the speed of the last training here, or else the measured one, scaled by model size.

    Args:
        training: The configuration; its method counts.
        n_parameters: Size of the model, if known.
        device: cpu, cuda or mps; empty takes the last training on any.

    Returns:
        Tokens per second, and where the number comes from.
    """
    # A name that begins with a dot is of an incomplete output.
    records = (work_directory() / "stages" / Stage.TRAIN_MODEL).glob("[!.]*/training.json")
    for path in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            measured = float(facts["tokens_per_second"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if measured > 0 and (not device or facts.get("device", device) == device):
            return measured, "as in the last training here"
    size = n_parameters or MEASURED_PARAMETERS
    rate = MEASURED_TOKENS_PER_SECOND[training.method] * MEASURED_PARAMETERS / size
    faster = "" if device in ("", "cpu") else "; a GPU is faster"
    return rate, f"on two CPU cores (estimate, scaled by model size{faster})"


def estimate_steps(
    training: TrainingConfig, n_rows: int, n_tokens: int, prefix_tokens: int = 0
) -> tuple[int, int]:
    """Count optimiser steps and the tokens they see, with packing taken as perfect.

    Args:
        training: The configuration: packing, effective batch and epochs.
        n_rows: Training rows.
        n_tokens: Tokens in all of them.
        prefix_tokens: Common to all rows; a sequence contains them once, an eighth of it at most.

    Returns:
        Steps = ceil(epochs x ceil(sequences / effective batch)), or max_steps; and tokens.
    """
    limit = training.packing_length_tokens
    shared = min(prefix_tokens, limit // SHARED_SHARE)
    packed = math.ceil((n_tokens - n_rows * shared) / (limit - shared))
    n_sequences = max(1, packed if training.packing else n_rows)
    steps_per_epoch = math.ceil(n_sequences / effective_batch(training))
    n_steps = training.max_steps or math.ceil(steps_per_epoch * training.num_train_epochs)
    return n_steps, round(n_tokens * n_steps / steps_per_epoch)
