"""Write the results of a training: merged model, adapter, loss curve and metrics."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.training import Method
from schemas.errors import TrainingError, WeightsNotFinite
from tasks.engine.process_limits import peak_memory_bytes
from tasks.models.prepared import load_prepared_model, read_facts, write_facts
from tasks.models.shape import stored_dtypes
from tasks.tokens.token_file import NOT_TRAINED
from tasks.training.process._callbacks import keep_checkpoint
from tasks.training.process._log import best_measurement, loss_curve
from tasks.training.process._loss_guards import training_losses
from tasks.training.process._step_guards import check_weights
from tasks.training.process._training_data import read_tokens
from tasks.training.process.checkpoints import checkpoint_step
from tasks.training.process.spec import TrainingFacts, TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel
    from trl import SFTTrainer


def write_results(trainer: SFTTrainer, spec: TrainingSpec) -> None:
    """Save the model and the metrics of a finished training.

    Args:
        trainer: After training.
        spec: What was trained.

    Raises:
        TrainingError: No step was made.
    """
    curve = loss_curve(trainer.state.log_history, spec.training.logging_steps)
    if not any("loss" in point for point in curve):
        raise TrainingError("no step was made", where=str(spec.train_tokens), fix="add rows")
    best = load_best(trainer, spec)
    facts = measure(trainer, spec, best)
    check_weights(trainer.model, trainer.state.global_step)
    save_model(trainer, spec)
    if trainer.accelerator.is_main_process:
        (spec.output / "history.json").write_text(json.dumps(curve, indent=1), encoding="utf-8")
        text = facts.model_dump_json(indent=1)
        (spec.output / "training.json").write_text(text, encoding="utf-8")


def load_best(trainer: SFTTrainer, spec: TrainingSpec) -> tuple[int, float] | None:
    """With early stopping, load the best checkpoint; return its step and validation loss."""
    best = best_measurement(trainer.state.log_history) if spec.training.early_stopping else None
    if best and best[0] != trainer.state.global_step:
        trainer._load_from_checkpoint(str(spec.checkpoints / f"checkpoint-{best[0]}"))
    return best


def save_model(trainer: SFTTrainer, spec: TrainingSpec) -> None:
    """Save the model to evaluate and register: merged, in safetensors, with its tokenizer.

    It gets the number format of its base, so that a comparison of both measures no rounding.
    """
    is_sharded = trainer.is_fsdp_enabled
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_sharded else None
    if not trainer.accelerator.is_main_process:
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    if spec.training.has_adapter:
        model.save_pretrained(spec.output / "adapter", state_dict=weights)
        weights = None
        is_rounded = spec.choices.weights_dtype not in ("float32", stored_dtypes(spec.model)[0])
        if is_sharded or spec.training.method is Method.QLORA or is_rounded:
            model = merge_adapter(
                spec
            )  # not into shards, 4-bit weights or fewer bits than the base
        else:
            model = model.merge_and_unload()
    weights = cast_as_stored(model, spec.model, weights)
    check_weights(model, trainer.state.global_step, has_frozen=True)
    model.config.use_cache = True
    model.save_pretrained(spec.output / "model", state_dict=weights)
    trainer.processing_class.save_pretrained(spec.output / "model")
    write_facts(spec.output / "model", read_facts(spec.model))


def cast_as_stored(
    model: PreTrainedModel, base: Path, weights: dict[str, Tensor] | None = None
) -> dict[str, Tensor] | None:
    """Cast a trained model to the number format that its base is stored in.

    Args:
        model: Changed in place.
        base: Folder of the model before training.
        weights: The complete weights of a model that has only shards of them.

    Returns:
        The complete weights, if given, in that format.
    """
    import torch

    usual, formats = stored_dtypes(base)
    if weights is not None:
        model.to(getattr(torch, usual))  # names the format in config.json
        return {
            name: each.to(getattr(torch, formats.get(name, usual)))
            if each.is_floating_point()
            else each
            for name, each in weights.items()
        }
    for name, each in model.named_parameters():
        each.data = each.data.to(getattr(torch, formats.get(name, usual)))
    return None


def merge_adapter(spec: TrainingSpec) -> PreTrainedModel:
    """Merge the saved adapter into the base model as it was before training, on the CPU."""
    from peft import PeftModel

    base = load_prepared_model(spec.model, "cpu")
    return PeftModel.from_pretrained(base, spec.output / "adapter").merge_and_unload()


def save_what_was_trained(trainer: SFTTrainer, spec: TrainingSpec) -> None:
    """Save a checkpoint of the last good step, after a guard has stopped the training."""
    step = trainer.state.global_step
    is_new = step > (checkpoint_step(spec.resume_from) if spec.resume_from else 0)
    is_alone = trainer.accelerator.num_processes == 1  # others may be waiting elsewhere
    if not (is_new and is_alone) or (spec.checkpoints / f"checkpoint-{step}").exists():
        return
    with suppress(WeightsNotFinite):  # then the checkpoint before is the last good one
        trainer._save_checkpoint(trainer.model, trial=None)
        keep_checkpoint(spec, step, trainer.state.log_history)


def measure(
    trainer: SFTTrainer, spec: TrainingSpec, best: tuple[int, float] | None
) -> TrainingFacts:
    """Collect the metrics of a finished training; `best` is what `load_best` returned."""
    import torch

    log = trainer.state.log_history
    losses = training_losses(log)
    speeds = [entry["tokens_per_second"] for entry in log if "tokens_per_second" in entry]
    labels = read_tokens(spec.train_tokens, spec.seed)["labels"]
    return TrainingFacts(
        device=trainer.args.device.type,
        n_steps=trainer.state.global_step,
        n_tokens_seen=int(max(entry.get("n_tokens_seen", 0) for entry in log)),
        n_supervised_tokens_per_epoch=sum(
            sum(label != NOT_TRAINED for label in row) for row in labels
        ),
        first_loss=losses[0],
        last_loss=losses[-1],
        best_step=best[0] if best else None,
        best_validation_loss=best[1] if best else None,
        n_trainable_parameters=sum(
            weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
        ),
        resumed_from_step=checkpoint_step(spec.resume_from) if spec.resume_from else 0,
        batching=spec.batching,
        choices=trainer.choices.described(),
        notes=(*spec.notes, *trainer.notes),
        seconds=round(trainer.n_seconds, 3),
        tokens_per_second=round(speeds[-1], 1) if speeds else 0.0,
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_bytes=torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0,
    )
