"""How many steps a training takes and how fast it goes on this machine, for estimates."""

from __future__ import annotations

import json
import math

from schemas.config.run import RunConfig
from schemas.config.training import Method, TrainingConfig
from schemas.records.stages import Stage
from tasks.engine.home import work_directory
from tasks.training.plan.batching import effective_batch
from tasks.training.plan.shared_prefix import SHARED_SHARE

MEASURED_TOKENS_PER_SECOND = {Method.LORA: 150.0, Method.QLORA: 150.0, Method.FULL: 100.0}
"""SmolLM2-135M, packed to 512 tokens, two CPU cores; QLoRA taken to be like LoRA."""
MEASURED_PARAMETERS = 134_515_008


def tokens_per_second(config: RunConfig, n_parameters: int | None) -> tuple[float, str]:
    """Tell how fast training goes: as last measured here, else as measured by us.

    Args:
        config: Its training method counts.
        n_parameters: Of the model, if known.

    Returns:
        Tokens per second and where the figure comes from.
    """
    return expected_speed(config.training, n_parameters)


def expected_speed(
    training: TrainingConfig, n_parameters: int | None, device: str = ""
) -> tuple[float, str]:
    """Tell how fast training goes: as last measured here on this device, else as measured by us.

    Args:
        training: Its method counts.
        n_parameters: Of the model, if known.
        device: cpu, cuda or mps; empty takes the last training on any.

    Returns:
        Tokens per second and where the figure comes from.
    """
    # A name that begins with a dot is of an output that is not whole.
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
        training: Packing, effective batch and epochs count.
        n_rows: Training rows.
        n_tokens: Their tokens together.
        prefix_tokens: That the rows share; a sequence holds them once, an eighth of it at most.

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
