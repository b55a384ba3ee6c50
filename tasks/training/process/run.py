"""The training process: TRL's `SFTTrainer` on rows that are tokenised and checked already.

Run as `python -m tasks.training.process.run SPEC.json` by `tasks.training.launch`, or by accelerate in
several processes, so that the allocator's settings are in the environment before it starts, its
memory is freed when it ends, and killing it loses no more than the steps since the last
checkpoint.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path

from schemas.errors import MemoryExhausted, SftFlowError, TrainingInterrupted
from tasks.engine.full_disk import naming_full_disks
from tasks.models.device import is_out_of_memory
from tasks.training.process.checkpoints import hold_lock
from tasks.training.process.events import StopFlag, open_events, send
from tasks.training.process.spec import (
    EXIT_GUARD,
    EXIT_INTERRUPTED,
    EXIT_OUT_OF_MEMORY,
    EventKind,
    TrainingEvent,
    TrainingSpec,
)


def train(spec: TrainingSpec) -> int:
    """Train, or resume an interrupted training; return the exit code of the process."""
    stop = StopFlag(spec.checkpoints)
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        with (
            naming_full_disks(),
            hold_lock(spec.checkpoints) if is_first else nullcontext(),
        ):
            return _train(spec, stop)
    except SftFlowError as error:
        send(failure(error))
        return EXIT_GUARD
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        send(failure(MemoryExhausted(str(error).splitlines()[0])))
        return EXIT_OUT_OF_MEMORY


def failure(error: SftFlowError) -> TrainingEvent:
    """Make an event of an error, so that the parent can raise it again."""
    return TrainingEvent(
        kind=EventKind.FAILED,
        error=type(error).__name__,
        detail=error.what,
        where=error.where,
        expected=error.expected,
        got=error.got,
        fix=error.fix,
    )


def _train(spec: TrainingSpec, stop: StopFlag) -> int:
    from tasks.training.process._loss_guards import check_learning
    from tasks.training.process._results import save_what_was_trained, write_results
    from tasks.training.process._trainer import build_trainer, continue_training

    trainer = build_trainer(spec, stop)
    try:
        continue_training(trainer, spec)
        if stop.is_told:
            send(
                failure(
                    TrainingInterrupted(
                        "training received a request to stop and saved a checkpoint"
                    )
                )
            )
            return EXIT_INTERRUPTED
        trainer.note(check_learning(trainer.state.log_history, spec.training))
    except SftFlowError:
        save_what_was_trained(trainer, spec)
        raise
    write_results(trainer, spec)
    return 0


if __name__ == "__main__":
    open_events()
    sys.exit(train(TrainingSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))))
