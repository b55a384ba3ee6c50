"""Each guard of a step: once broken, in a real trainer on a toy model, and once by a hair not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import (
    GradientIsZero,
    GradientNotFinite,
    LossIsZero,
    LossNotFinite,
    NoLabels,
    NothingTrainable,
    TrainingError,
    WeightsNotFinite,
    is_retryable,
)
from tasks.training.process._step_guards import (
    GuardedSteps,
    StepNumbers,
    check_step,
    check_trainable,
    check_weights,
    name_rows,
    split_batch,
)
from tests.support.toy import make_toy_model

GOOD = StepNumbers(step=1, loss=2.0, n_empty_batches=0, grad_norm=1.0)
N_ROWS = 6


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        (replace(GOOD, n_empty_batches=1), NoLabels),
        (replace(GOOD, n_empty_batches=1, loss=0.0, grad_norm=0.0), NoLabels),
        (replace(GOOD, loss=math.nan, grad_norm=math.nan), LossNotFinite),
        (replace(GOOD, loss=math.inf), LossNotFinite),
        (replace(GOOD, loss=0.0, grad_norm=0.0), LossIsZero),
        (replace(GOOD, grad_norm=math.nan), GradientNotFinite),
        (replace(GOOD, grad_norm=math.inf), GradientNotFinite),
        (replace(GOOD, grad_norm=0.0), GradientIsZero),
    ],
)
def test_check_step_names_what_is_wrong(numbers: StepNumbers, error: type[TrainingError]) -> None:
    with pytest.raises(error) as caught:
        check_step(numbers)
    assert type(caught.value) is error
    assert caught.value.where == "step 1"
    assert caught.value.fix
    assert not is_retryable(caught.value)


@pytest.mark.parametrize(
    "numbers",
    [
        GOOD,
        replace(GOOD, loss=1e-30, grad_norm=1e-30),
        replace(GOOD, loss=1e30, grad_norm=1e30),
        replace(GOOD, step=2, grad_norm=0.0),
        replace(GOOD, grad_norm=math.inf, has_loss_scaling=True),  # the scaler skips the step
    ],
)
def test_check_step_lets_unusual_steps_pass(numbers: StepNumbers) -> None:
    check_step(numbers)
    with pytest.raises(LossNotFinite):  # the same step is refused for what is wrong
        check_step(replace(numbers, loss=math.nan))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def toy_labels(row: int) -> list[int]:
    return [-100] * 3 + [50 + row, 60, 70]


def make_trainer(
    folder: Path,
    output: Path,
    *,
    labels: Callable[[int], list[int]] = toy_labels,
    is_lora: bool = False,
    **arguments: Any,
) -> Any:
    import pyarrow
    from datasets import Dataset
    from peft import LoraConfig
    from pyarrow import parquet
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    class Trainer(GuardedSteps, SFTTrainer):
        train_tokens = output / "tokens.parquet"

    rows = {
        "input_ids": [[40, 41, 42, 50 + row, 60, 70] for row in range(N_ROWS)],
        "labels": [labels(row) for row in range(N_ROWS)],
    }
    tokens = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema([("row", pyarrow.int64()), ("input_ids", tokens), ("labels", tokens)])
    stored = pyarrow.Table.from_pydict({"row": range(N_ROWS), **rows}, schema=schema)
    parquet.write_table(stored, Trainer.train_tokens)
    defaults = {
        "max_steps": 3,
        "save_steps": 1,
        "per_device_train_batch_size": 2,
        "learning_rate": 0.01,
        "train_sampling_strategy": "sequential",
    }
    return Trainer(
        model=load(folder),
        args=SFTConfig(
            output_dir=str(output),
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            logging_steps=1,
            dataset_kwargs={"skip_prepare_dataset": True},  # it would drop rows without labels
            **(defaults | arguments),
        ),
        train_dataset=Dataset.from_dict(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=LoraConfig(r=2, target_modules="all-linear") if is_lora else None,
    )


def saved_steps(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("checkpoint-*"))


def weights_of(trainer: Any) -> list[Any]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


@pytest.mark.parametrize("is_lora", [False, True])
def test_a_sound_training_passes_every_guard(
    model_folder: Path, tmp_path: Path, is_lora: bool
) -> None:
    trainer = make_trainer(
        model_folder, tmp_path, is_lora=is_lora, gradient_accumulation_steps=2, max_steps=1
    )
    trainer.train()
    assert trainer.state.global_step == 1
    assert saved_steps(tmp_path) == ["checkpoint-1"]


def test_weights_that_became_nan_end_the_next_step_unapplied(
    model_folder: Path, tmp_path: Path
) -> None:
    from transformers import TrainerCallback

    class Poison(TrainerCallback):
        def on_step_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
        ) -> None:
            if state.global_step == 1:
                model.model.norm.weight.data[0] = math.nan

    trainer = make_trainer(model_folder, tmp_path)
    trainer.add_callback(Poison())
    with pytest.raises(LossNotFinite) as caught:
        trainer.train()
    assert caught.value.where == "step 2, training rows 2, 3"
    assert caught.value.got == "nan"
    assert saved_steps(tmp_path) == ["checkpoint-1"]
    import torch

    assert torch.isfinite(trainer.model.model.layers[0].mlp.up_proj.weight).all()


def test_gradient_that_is_not_finite_is_not_applied(model_folder: Path, tmp_path: Path) -> None:
    import torch

    trainer = make_trainer(model_folder, tmp_path)
    weight = trainer.model.model.norm.weight
    weight.register_hook(lambda gradient: gradient * math.inf)
    before = weights_of(trainer)
    with pytest.raises(GradientNotFinite, match="not applied") as caught:
        trainer.train()
    assert caught.value.where == "step 1, training rows 0, 1"
    assert all(torch.equal(*pair) for pair in zip(before, weights_of(trainer), strict=True))
    assert saved_steps(tmp_path) == []


def test_gradient_of_zero_ends_the_first_step(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path)
    for parameter in trainer.model.parameters():
        parameter.register_hook(lambda gradient: gradient * 0)
    with pytest.raises(GradientIsZero):
        trainer.train()


def test_loss_of_zero_ends_the_training(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path)
    compute = trainer.compute_loss
    trainer.compute_loss = lambda *args, **options: compute(*args, **options) * 0
    with pytest.raises(LossIsZero):
        trainer.train()


def test_batch_without_labels_ends_the_training_and_names_its_rows(
    model_folder: Path, tmp_path: Path
) -> None:
    def labels(row: int) -> list[int]:
        return [-100] * 6 if row in (2, 3) else toy_labels(row)

    trainer = make_trainer(model_folder, tmp_path, labels=labels, gradient_accumulation_steps=3)
    with pytest.raises(NoLabels) as caught:
        trainer.train()
    assert caught.value.where == "step 1, training rows 2, 3"
    assert caught.value.got == "1 without"


def test_label_that_is_never_predicted_is_none(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path, labels=lambda _: [40] + [-100] * 5)
    with pytest.raises(NoLabels):
        trainer.train()


def test_row_without_labels_passes_beside_one_with_labels(
    model_folder: Path, tmp_path: Path
) -> None:
    def labels(row: int) -> list[int]:
        return [-100] * 6 if row % 2 else toy_labels(row)

    trainer = make_trainer(model_folder, tmp_path, labels=labels, max_steps=1)
    trainer.train()
    assert trainer.state.global_step == 1


def test_frozen_model_is_refused_before_the_first_step(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path)
    trainer.model.requires_grad_(requires_grad=False)
    with pytest.raises(NothingTrainable):
        trainer.train()


def test_one_trained_parameter_is_enough(model_folder: Path) -> None:
    model = load(model_folder)
    model.requires_grad_(requires_grad=False)
    model.model.norm.weight.requires_grad_(requires_grad=True)
    check_trainable(model)
    model.model.norm.weight.requires_grad_(requires_grad=False)
    with pytest.raises(NothingTrainable):
        check_trainable(model)


def test_enormous_learning_rate_leaves_no_broken_checkpoint(
    model_folder: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(model_folder, tmp_path, learning_rate=1e38)
    with pytest.raises((WeightsNotFinite, LossNotFinite, GradientNotFinite)):
        trainer.train()
    for folder in tmp_path.glob("checkpoint-*"):
        check_weights(load(folder), 1)


def test_weights_that_are_not_finite_are_not_saved(model_folder: Path, tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Poison(TrainerCallback):
        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
        ) -> None:
            if state.global_step == 2:
                next(p for n, p in model.named_parameters() if "lora_B" in n).data[0] = math.inf

    trainer = make_trainer(model_folder, tmp_path, is_lora=True)
    trainer.add_callback(Poison())
    with pytest.raises(WeightsNotFinite, match="not saved") as caught:
        trainer.train()
    assert caught.value.where.startswith("step 2: ")
    assert "lora_B" in caught.value.where
    assert saved_steps(tmp_path) == ["checkpoint-1"]


def test_check_weights_looks_at_frozen_ones_only_when_told_to(model_folder: Path) -> None:
    model = load(model_folder)
    model.requires_grad_(requires_grad=False)
    check_weights(model, 4, has_frozen=True)
    model.model.norm.weight.data[0] = math.nan
    check_weights(model, 4)
    with pytest.raises(WeightsNotFinite, match=r"step 4: model\.norm\.weight"):
        check_weights(model, 4, has_frozen=True)


def write_rows(path: Path, rows: list[list[int]]) -> Path:
    """Write tokens as the data gate does; rows are numbered 0, 10, 20 and so on."""
    import pyarrow
    from pyarrow import parquet

    tokens = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema([("row", pyarrow.int64()), ("input_ids", tokens), ("labels", tokens)])
    columns = [range(0, 10 * len(rows), 10), rows, rows]
    parquet.write_table(
        pyarrow.table(
            [pyarrow.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
        ),
        path,
    )
    return path


def padded() -> dict[str, Any]:
    import torch

    ids = torch.tensor([[1, 2, 3], [4, 5, 0]])
    return {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}


def packed() -> dict[str, Any]:
    import torch

    ids = torch.tensor([[1, 2, 3, 4, 5]])
    return {"input_ids": ids, "position_ids": torch.tensor([[0, 1, 2, 0, 1]])}


def as_bytes(*ids: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in ids)


def test_split_batch_takes_padding_and_packing_apart() -> None:
    expected = [as_bytes(1, 2, 3), as_bytes(4, 5)]
    assert list(split_batch(padded())) == expected
    assert list(split_batch(packed())) == expected


def test_name_rows_reads_their_numbers(tmp_path: Path) -> None:
    stored = write_rows(tmp_path / "a.parquet", [[4, 5], [4], [1, 2, 3]])
    assert name_rows([packed()], stored) == "training rows 0, 20"
    assert name_rows([padded()], stored) == "training rows 0, 20"


def test_name_rows_names_a_few_of_many(tmp_path: Path) -> None:
    stored = write_rows(tmp_path / "a.parquet", [[4, 5]] * 7)
    assert name_rows([padded()], stored) == "training rows 0, 10, 20, 30, 40 and 2 more"


def test_name_rows_is_silent_where_it_finds_none(tmp_path: Path) -> None:
    assert name_rows([padded()], None) == ""
    assert name_rows([padded()], write_rows(tmp_path / "a.parquet", [[9]])) == ""
