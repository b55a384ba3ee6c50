"""The disk space that a run needs, from the size of its model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from schemas.config.training import TrainingConfig
from schemas.errors import WorkDirectoryError
from tasks.engine.wording import gibibytes

WEIGHT_BYTES = 4
"""float32, the widest format a model is saved in."""
OPTIMISER_BYTES = 8
"""AdamW's two averages per trained parameter, in a checkpoint."""
ADAPTER_FRACTION_PER_RANK = 0.0025
"""Parameters of a LoRA adapter on all linear layers: 3.6 % of SmolLM2-135M at r=16, less in others."""
OTHER_FRACTION = 0.1
"""Share of adapter, tokenizers, reports and MLflow's records. The demo takes 1.54 GiB, its estimate is
1.65 GiB."""


def needed_bytes(n_parameters: int, training: TrainingConfig) -> int:
    """Estimate the peak disk space of a run, without its data.

    Base, tuned and registered model are kept; the registered one is written after the checkpoints
    are removed. In addition to the last checkpoints, there may be the best one and a partial one.

    Args:
        n_parameters: Parameters of the base model.
        training: Method and number of checkpoints.

    Returns:
        Bytes: (2 x model + max(checkpoints, model)) x (1 + `OTHER_FRACTION`).
    """
    model = WEIGHT_BYTES * n_parameters
    fraction = ADAPTER_FRACTION_PER_RANK * training.lora.r if training.has_adapter else 1.0
    checkpoint = round((WEIGHT_BYTES + OPTIMISER_BYTES) * fraction * n_parameters)
    peak = 2 * model + max((training.save_total_limit + 2) * checkpoint, model)
    return round((1 + OTHER_FRACTION) * peak)


def require_temporary_space(n_parameters: int) -> None:
    """Check that a model fits into the folder for temporary files.

    MLflow writes one there before it stores it, and the champion of a remote store is downloaded there.

    Args:
        n_parameters: Parameters of the model.

    Raises:
        WorkDirectoryError: It does not fit.
    """
    folder = Path(tempfile.gettempdir())
    needed, free = WEIGHT_BYTES * n_parameters, shutil.disk_usage(folder).free
    if free < needed:
        raise WorkDirectoryError(
            f"a model needs up to {gibibytes(needed)} in the folder for temporary files, "
            f"{gibibytes(free)} free at {folder}",
            where=f"{folder} (TMPDIR)",
            expected=gibibytes(needed),
            got=gibibytes(free),
            fix="free space, or set TMPDIR to a folder on another disk",
        )
