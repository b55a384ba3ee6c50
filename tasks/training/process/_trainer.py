"""Build TRL's `SFTTrainer` for rows that are tokenised already: small hooks, no fork."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer, read_facts
from tasks.training.plan.choices import Choices, Head
from tasks.training.process._adapter import add_in_place
from tasks.training.process._arguments import (
    check_targets,
    lora_arguments,
    quantisation_arguments,
    sft_arguments,
)
from tasks.training.process._attention import find_attention
from tasks.training.process._callbacks import make_callback
from tasks.training.process._contract import check_contract, check_padding
from tasks.training.process._lm_head import check_head, score_labelled_only
from tasks.training.process._loss_guards import has_stopped_improving, make_loss_guard
from tasks.training.process._packing import count_row_tokens
from tasks.training.process._step_guards import GuardedSteps
from tasks.training.process._trained_parts import check_new_tokens, freeze_other_parts
from tasks.training.process._training_data import read_data, training_device, try_packing
from tasks.training.process._validation import RowValidation, fill_up
from tasks.training.process.events import StopFlag, send
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim.lr_scheduler import LRScheduler
    from transformers import PreTrainedModel
    from trl import SFTConfig, SFTTrainer


N_HEAD_TOKENS = 32
"""On which the head is compared with the model's own."""


def make_trainer_class() -> type[SFTTrainer]:
    """Make a subclass of `SFTTrainer` with the guards, which also measures row tokens and speed."""
    import torch
    from trl import SFTTrainer

    class RowTrainer(GuardedSteps, RowValidation, SFTTrainer):
        notes: tuple[str, ...] = ()
        choices: Choices
        untried_rows: tuple[list[int], ...] = ()
        n_seconds = 0.0
        n_tokens_here = 0
        n_tokens_seen = 0
        first_step_ended: tuple[float, int] | None = None

        def note(self, sentence: str) -> None:
            if sentence:
                self.notes = (*self.notes, sentence)
                send(TrainingEvent(kind=EventKind.NOTE, detail=sentence))

        def training_step(
            self, model: nn.Module, inputs: dict[str, Any], *args: Any, **options: Any
        ) -> Tensor:
            self.untried_rows = try_packing(model, self.untried_rows)
            self.n_tokens_here += count_tokens(inputs)
            return super().training_step(model, inputs, *args, **options)

        def create_scheduler(
            self, num_training_steps: int, *args: Any, **options: Any
        ) -> LRScheduler:
            shorten_warmup(self.args, num_training_steps)
            return super().create_scheduler(num_training_steps, *args, **options)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:  # one entry a step, on every process
                here = torch.tensor(self.n_tokens_here, device=self.args.device)
                self.n_tokens_here = 0
                before = tokens_so_far(self.state.log_history)
                self.n_tokens_seen = before + int(self.accelerator.reduce(here).item())
                logs["n_tokens_seen"] = self.n_tokens_seen
                now = (time.monotonic(), self.n_tokens_seen)
                self.first_step_ended = self.first_step_ended or now
                seconds, n_tokens = (b - a for a, b in zip(self.first_step_ended, now, strict=True))
                if n_tokens:
                    logs["tokens_per_second"] = n_tokens / seconds
            super().log(logs, start_time)

    return RowTrainer


def shorten_warmup(args: SFTConfig, n_steps: int) -> None:
    """Leave out a warm-up that would fill the complete training, at a learning rate of 0."""
    if args.get_warmup_steps(n_steps) >= n_steps:
        args.warmup_steps = 0


def tokens_so_far(log: Sequence[dict[str, Any]]) -> int:
    """Read how many row tokens were seen up to the last logged step."""
    last: dict[str, Any] = next((entry for entry in reversed(log) if "loss" in entry), {})
    return int(last.get("n_tokens_seen", 0))


def count_tokens(inputs: dict[str, Any]) -> int:
    """Count the row tokens of a batch, without padding; a shared prefix counts for each row."""
    if "row_lengths" in inputs:
        return count_row_tokens(inputs["row_lengths"])
    mask = inputs.get("attention_mask")
    return int(inputs["input_ids"].numel() if mask is None else mask.sum())


def build_trainer(spec: TrainingSpec, stop: StopFlag) -> SFTTrainer:
    """Combine model, rows and arguments, and check them against the contract."""
    import torch
    from transformers import set_seed

    set_seed(spec.seed)
    if spec.choices.device == "cuda":
        torch.cuda.set_device(training_device(spec))  # kernels that are tried start there
    tokenizer = load_prepared_tokenizer(spec.model)
    check_contract(spec, tokenizer)
    model, choices = load_trainable_model(spec)
    check_targets(spec.training, model)
    data = read_data(spec, model)
    choices = data.packed_as(choices)
    new_ids = read_facts(spec.model).added_token_ids
    with warnings.catch_warnings():
        # PEFT 0.21 looks for its own patterns for fused experts among modules; they are parameters.
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern", RuntimeWarning)
        trainer = make_trainer_class()(
            model=model,
            args=sft_arguments(spec, choices, data.longest_row_tokens),
            train_dataset=data.training,
            eval_dataset=data.validation,
            data_collator=data.collator,
            processing_class=tokenizer,
            peft_config=lora_arguments(spec.training, model, new_ids),
            callbacks=[make_callback(spec, stop)],
        )
    trainer.train_tokens, trainer.untried_rows = spec.train_tokens, data.untried
    if trainer.eval_dataset is not None and trainer.args.world_size > 1:
        n_rows = trainer.args.eval_batch_size * trainer.args.world_size
        trainer.eval_dataset = fill_up(trainer.eval_dataset, n_rows)
    trainer.add_callback(make_loss_guard(spec.training, trainer.note))
    trainer.choices = set_head(trainer.model, choices)
    add_in_place(trainer.model, spec.training, choices)
    if trainer.model.device.type == choices.device:  # shards are still elsewhere
        with trainer.accelerator.autocast():
            check_head(trainer.model, trainer.train_dataset[0]["input_ids"][:N_HEAD_TOKENS])
    for name in ("attention", "packing"):
        if getattr(choices, name) != getattr(spec.choices, name):
            trainer.note(f"{name} is {getattr(choices, name)}: {choices.reasons[name]}")
    check_new_tokens(trainer.model, new_ids)
    check_padding(trainer.data_collator, trainer.train_dataset)
    return trainer


def set_head(model: PreTrainedModel, choices: Choices) -> Choices:
    """Replace TRL's head as chosen; return what was chosen, with the head that computes the loss."""
    head = model.get_output_embeddings()
    if not hasattr(head, "bias"):
        # PEFT 0.21 wraps a head that shares its weights with trained token rows and provides its
        # merged `weight`, but not the `bias` that TRL 1.16's fused loss reads.
        head.register_parameter("bias", None)
    if choices.head is not Head.OURS or score_labelled_only(model, choices.device):
        return choices
    reason = "the model scales or caps its logits or has a loss of its own, or runs on a GPU"
    return choices.replace("head", Head.FUSED, reason)


def load_trainable_model(spec: TrainingSpec) -> tuple[PreTrainedModel, Choices]:
    """Load the prepared model in the format chosen for this machine.

    Return it with the choices, of which attention is another one where the model lacks that chosen.
    """
    choices = find_attention(spec.model, spec.choices)
    options = choices.model_arguments | quantisation_arguments(spec.training, choices)
    model = load_prepared_model(spec.model, spec.choices.device, **options)
    if not spec.training.has_adapter:
        freeze_other_parts(model)
    return model, choices


def continue_training(trainer: SFTTrainer, spec: TrainingSpec) -> None:
    """Train to the end, from the checkpoint or from the beginning."""
    from transformers.trainer_callback import TrainerState

    folder = str(spec.resume_from) if spec.resume_from else None
    if spec.resume_from:
        state = TrainerState.load_from_json(str(spec.resume_from / "trainer_state.json"))
        patience = spec.training.early_stopping
        was_stopped = patience and has_stopped_improving(state.log_history, patience)
        if state.global_step >= state.max_steps or was_stopped:
            # Killed between the last step and the result: transformers would make one more step.
            trainer.state = state
            trainer._load_from_checkpoint(folder)
            return
    accept_numbered_processors()
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=folder)
    trainer.n_seconds = time.monotonic() - started


def accept_numbered_processors() -> None:
    """Let torch load optimiser state onto `cpu:0`.

    transformers 5.17 asks for the device of the process, and accelerate 1.15 numbers processors
    where several processes train on one; torch 2.13 only accepts `cpu` itself.
    """
    import torch

    priorities = [entry[0] for entry in torch.serialization._package_registry]
    torch.serialization.register_package(
        max(priorities) + 1,
        lambda storage: None,
        lambda storage, location: storage if location.startswith("cpu:") else None,
    )
