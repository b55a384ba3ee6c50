"""How fast training goes on this machine, for estimates."""

from __future__ import annotations

import json

from schemas.run_config import RunConfig
from schemas.stages import Stage
from schemas.training_config import Method
from tasks._home import work_directory

MEASURED_TOKENS_PER_SECOND = {Method.LORA: 150.0, Method.FULL: 100.0}
"""SmolLM2-135M, packed to 512 tokens, two CPU cores."""
MEASURED_PARAMETERS = 134_515_008


def tokens_per_second(config: RunConfig, n_parameters: int | None) -> tuple[float, str]:
    """Tell how fast training goes: as last measured here, else as measured by us.

    Args:
        config: Its training method counts.
        n_parameters: Of the model, if known.

    Returns:
        Tokens per second and where the figure comes from.
    """
    records = (work_directory() / "stages" / Stage.TRAIN_MODEL).glob("*/training.json")
    for path in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            measured = float(json.loads(path.read_text(encoding="utf-8"))["tokens_per_second"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if measured > 0:
            return measured, "as in the last training here"
    size = n_parameters or MEASURED_PARAMETERS
    rate = MEASURED_TOKENS_PER_SECOND[config.training.method] * MEASURED_PARAMETERS / size
    return rate, "on two CPU cores (estimate, scaled by model size)"
