"""The training process: TRL's `SFTTrainer` on rows that are tokenised and checked already.

Run as `python -m tasks._training_process SPEC.json` by stage `train_model`, so that the
allocator's settings are in the environment before it starts, its memory is given back when
it ends, and killing it loses no more than the steps since the last checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from schemas.training_config import Method
from tasks._device import choose_device
from tasks._prepared import (
    load_prepared_model,
    load_prepared_tokenizer,
    read_facts,
    write_facts,
)
from tasks._training_arguments import lora_arguments, sft_arguments
from tasks._training_spec import (
    EXIT_INTERRUPTED,
    EXIT_TRAINED_NOTHING,
    WHOLE_MARKER,
    EventKind,
    TrainingEvent,
    TrainingFacts,
    TrainingSpec,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTTrainer


ORPHAN_SECONDS = 600
"""Time an orphaned training of the same key gets to finish its step, save and stop."""
EVENT_STREAM = 1
"""File descriptor of the events; a copy of standard output, which libraries print to as well."""


class StopFlag:
    """Set by a signal, or when the parent is gone; looked at after every step."""

    def __init__(self) -> None:
        """Remember the parent and listen for SIGTERM."""
        self.parent = os.getppid()
        self.is_told = False
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, _number: int, _frame: object) -> None:
        self.is_told = True

    @property
    def is_set(self) -> bool:
        """Tell whether training should save and stop."""
        return self.is_told or os.getppid() != self.parent


def say(event: TrainingEvent) -> None:
    """Write one event to the parent.

    Args:
        event: What happened.
    """
    with suppress(BrokenPipeError):  # nobody listens any more; StopFlag sees it and saves
        os.write(EVENT_STREAM, (event.model_dump_json() + "\n").encode())


def read_tokens(path: Path) -> Dataset:
    """Load tokenised rows as TRL takes them.

    Args:
        path: Parquet file with `input_ids` and `labels` (-100 = not trained).

    Returns:
        A dataset with these two columns.
    """
    import pyarrow.parquet as parquet
    from datasets import Dataset

    return Dataset(parquet.read_table(path, columns=["input_ids", "labels"]))


def make_callback(stop: StopFlag) -> TrainerCallback:
    """Report steps, mark whole checkpoints, and stop when told to.

    Args:
        stop: Set when training should end early.

    Returns:
        A callback for the trainer.
    """
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            say(
                TrainingEvent(
                    kind=EventKind.STARTED, step=state.global_step, n_steps=state.max_steps
                )
            )

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if stop.is_set:
                control.should_save = True
                control.should_training_stop = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            say(TrainingEvent(kind=EventKind.STEP, step=state.global_step, loss=loss))
            if loss is not None and not math.isfinite(loss):
                control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / WHOLE_MARKER).write_text(json.dumps({"step": state.global_step}))
            say(TrainingEvent(kind=EventKind.SAVED, step=state.global_step))

    return Reporter()


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Find where to resume, and remove checkpoints that were cut off half-way.

    Args:
        folder: The checkpoints of this very training (its name is the stage's key).

    Returns:
        The newest whole checkpoint, or None.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = [path for path in found if (path / WHOLE_MARKER).is_file()]
    for path in set(found) - set(whole):
        shutil.rmtree(path)
    return whole[-1] if whole else None


def build_trainer(spec: TrainingSpec, stop: StopFlag) -> SFTTrainer:
    """Put model, rows and arguments together.

    Args:
        spec: What to train.
        stop: Set when training should end early.

    Returns:
        The trainer.
    """
    from transformers import set_seed
    from trl import SFTTrainer

    set_seed(spec.seed)
    device = choose_device(spec.training.device)
    rows = read_tokens(spec.train_tokens)
    longest = max(len(tokens) for tokens in rows["input_ids"])
    trainer = SFTTrainer(
        model=load_prepared_model(spec.model, device),
        args=sft_arguments(spec, longest, device),
        train_dataset=rows,
        eval_dataset=read_tokens(spec.eval_tokens) if spec.training.eval_steps else None,
        processing_class=load_prepared_tokenizer(spec.model),
        peft_config=lora_arguments(spec.training, read_facts(spec.model).added_token_ids),
        callbacks=[make_callback(stop)],
    )
    head: Any = trainer.model.get_output_embeddings()
    if not hasattr(head, "bias"):
        # PEFT 0.21 wraps a head that shares its weights with trained token rows and passes on its
        # merged `weight`, but not the `bias` that TRL 1.16's fused loss asks for.
        head.register_parameter("bias", None)
    return trainer


def save_results(trainer: SFTTrainer, spec: TrainingSpec) -> None:
    """Save the model to judge and register: merged, in safetensors, with its tokenizer.

    Args:
        trainer: After training.
        spec: Names the folders.
    """
    model: Any = trainer.model
    if spec.training.method is Method.LORA:
        model.save_pretrained(spec.output / "adapter")
        model = model.merge_and_unload()
    model.config.use_cache = True
    model.save_pretrained(spec.output / "model")
    trainer.processing_class.save_pretrained(spec.output / "model")
    write_facts(spec.output / "model", read_facts(spec.model))


def train(spec: TrainingSpec) -> int:
    """Train, or go on with an interrupted training.

    Args:
        spec: What to train.

    Returns:
        The exit code of the process.
    """
    stop = StopFlag()
    lock = FileLock(spec.checkpoints / ".lock")
    lock.acquire(timeout=ORPHAN_SECONDS)  # held until the process ends
    resume_from = last_whole_checkpoint(spec.checkpoints)
    trainer = build_trainer(spec, stop)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    seconds = time.monotonic() - started
    if stop.is_set:
        return EXIT_INTERRUPTED
    history = [
        entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry
    ]
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    if not losses or not all(math.isfinite(loss) for loss in losses):
        detail = "the loss became NaN or infinite" if losses else "no step was made"
        say(TrainingEvent(kind=EventKind.FAILED, step=trainer.state.global_step, detail=detail))
        return EXIT_TRAINED_NOTHING
    resumed = int(resume_from.name.split("-")[1]) if resume_from else 0
    facts = measure(trainer, spec, losses, seconds, resumed)
    save_results(trainer, spec)
    (spec.output / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    (spec.output / "training.json").write_text(facts.model_dump_json(indent=1), encoding="utf-8")
    return 0


def measure(
    trainer: SFTTrainer, spec: TrainingSpec, losses: list[float], seconds: float, resumed: int
) -> TrainingFacts:
    """Collect the figures of a finished training.

    Args:
        trainer: After training.
        spec: What was trained.
        losses: The logged training losses.
        seconds: Time spent in the training loop.
        resumed: Step the training was resumed from; 0 for a fresh one.

    Returns:
        The figures.
    """
    rows = read_tokens(spec.train_tokens)
    n_tokens_per_epoch = sum(len(tokens) for tokens in rows["input_ids"])
    n_supervised = sum(sum(label != -100 for label in labels) for labels in rows["labels"])
    state = trainer.state
    n_seen = round(n_tokens_per_epoch * float(state.epoch or 0.0))
    share_now = (state.global_step - resumed) / max(state.global_step, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kibibytes on Linux
    return TrainingFacts(
        device=trainer.args.device.type,
        n_steps=state.global_step,
        n_tokens_seen=n_seen,
        n_supervised_tokens_per_epoch=n_supervised,
        first_loss=losses[0],
        last_loss=losses[-1],
        n_trainable_parameters=sum(
            weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
        ),
        resumed_from_step=resumed,
        seconds=round(seconds, 3),
        tokens_per_second=round(n_seen * share_now / seconds, 1),
        peak_memory_bytes=peak,
    )


if __name__ == "__main__":
    EVENT_STREAM = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to the log
    sys.exit(train(TrainingSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))))
