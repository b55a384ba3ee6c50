"""Stage `train_model`: supervised fine-tuning in a separate, resumable process."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from prefect.context import FlowRunContext

from schemas.config.training import TrainingConfig
from schemas.records.references import QualityReference, TemplateReference, TrainedReference
from schemas.records.stages import Stage
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.files import write_atomic
from tasks.engine.home import work_directory
from tasks.engine.keys import StageKey, stage_key
from tasks.engine.stage import PLAN, is_refreshed, stage_task
from tasks.models.shape import count_parameters
from tasks.training.launch import TrainingFolders, plan_training, run_training
from tasks.training.live_metrics import RUN_FILE
from tasks.training.loss_curve import draw_loss_curve
from tasks.training.monitor import TrainingMonitor
from tasks.training.plan.accelerate_file import accelerate_file_sha256
from tasks.training.plan.space import require_temporary_space
from tasks.training.process.checkpoints import hold_lock
from tasks.training.process.trainable import check_trainable


def weight_parts(parts: dict[str, str]) -> dict[str, str]:
    """Leave out key parts that cannot change the weights of a step: limits can change half-way."""
    names = ("guards.", "logging_steps", "save_steps", "save_total_limit")
    idle = tuple(f"config training.{name}" for name in names)
    return {name: text for name, text in parts.items() if not name.startswith(idle)}


TRAINING_LIBRARIES = ("bitsandbytes", "flash-attn", "kernels", "liger-kernel", "triton")
"""Chosen by settings and by the machine, and loaded by other libraries."""


def forget_earlier_runs(checkpoints: Path) -> None:
    """Remove other flow runs' checkpoints for a refresh; a retry resumes from its own."""
    context = FlowRunContext.get()
    run_id = str(context.flow_run.id) if context and context.flow_run else ""
    marker = checkpoints / "refreshed_by"
    if marker.is_file() and marker.read_text(encoding="utf-8") == run_id:
        return
    checkpoints.mkdir(parents=True, exist_ok=True)
    with hold_lock(checkpoints):  # an orphan of another run saves and stops first
        for path in checkpoints.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        (checkpoints / "spec.json").unlink(missing_ok=True)
        write_atomic(marker, run_id)


@stage_task(
    timeout_seconds=7 * 24 * 3600,
    libraries=TRAINING_LIBRARIES,
    fingerprint=accelerate_file_sha256,
)
def train_model(
    output: OutputFolder,
    template: TemplateReference,
    quality: QualityReference,
    training: TrainingConfig,
    seed: int,
) -> TrainedReference:
    """Fine-tune the prepared model on the checked rows.

    The output gets `model/` (merged), `adapter/` for LoRA, `history.json`, `training.json`,
    `loss_curve.svg`, and `mlflow_run.json` where the training was shown in MLflow. The seed is that
    of data order, dropout and adapter weights.
    """
    require_temporary_space(count_parameters(locate(template, "model")))
    key = StageKey(output.key.stage, weight_parts(output.key.parts))
    checkpoints = work_directory() / "checkpoints" / key.digest
    folders = TrainingFolders(output.path, checkpoints, key.parts)
    spec = plan_training(folders, template, quality, training, seed)
    if is_refreshed(Stage.TRAIN_MODEL):
        forget_earlier_runs(spec.checkpoints)
    with TrainingMonitor(spec) as monitor:
        facts = run_training(spec, monitor)
    history = json.loads((output.path / "history.json").read_text(encoding="utf-8"))
    draw_loss_curve(history, output.path / "loss_curve.svg")
    with suppress(FileNotFoundError):  # the store was unreachable
        shutil.copy(spec.checkpoints / RUN_FILE, output.path / RUN_FILE)
    reference = output.commit(
        TrainedReference,
        content=("model", "history.json"),
        device=facts.device,
        n_steps=facts.n_steps,
        n_tokens_seen=facts.n_tokens_seen,
        first_loss=facts.first_loss,
        last_loss=facts.last_loss,
        n_trainable_parameters=facts.n_trainable_parameters,
    )
    shutil.rmtree(spec.checkpoints, ignore_errors=True)
    return reference


def check_adapters(
    template: TemplateReference, quality: QualityReference, training: TrainingConfig, seed: int
) -> None:
    """Check before the baseline that the model can have the adapters, unless it was trained so.

    Args:
        template: The prepared model.
        quality: The checked rows.
        training: The configuration.
        seed: Of the training.

    Raises:
        ConfigError: A layer is missing, or cannot have such an adapter.
    """
    arguments = {"template": template, "quality": quality, "training": training, "seed": seed}
    key = stage_key(train_model.definition, arguments)
    if PLAN.get() is None and not (work_directory() / key.folder).is_dir():
        check_trainable(locate(template, "model"), training)
