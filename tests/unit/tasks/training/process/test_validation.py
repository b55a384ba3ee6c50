"""Each validation row counts once, whatever the batches and processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from tasks.training.process._trainer import build_trainer
from tasks.training.process._validation import fill_up
from tasks.training.process.events import StopFlag
from tasks.training.process.spec import TrainingSpec
from tests.support.toy import toy_spec


def uneven_rows(path: Path) -> Path:
    import pyarrow
    import pyarrow.parquet as parquet

    rows = parquet.read_table(path).to_pylist()[:7]
    for number, row in enumerate(rows):  # 1 to 5 labels
        hidden = max(0, 4 - number)
        first = next(i for i, label in enumerate(row["labels"]) if label != -100)
        row["labels"][first : first + hidden] = [-100] * hidden
    other = path.with_name("validation.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), other)
    return other


def validation_loss(spec: TrainingSpec, per_device: int) -> float:
    batching = spec.batching.model_copy(update={"per_device": per_device})
    spec = spec.model_copy(update={"batching": batching})
    found = build_trainer(spec, StopFlag(spec.checkpoints)).evaluate()
    return float(found["eval_loss"])


def test_validation_loss_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    spec = toy_spec(tmp_path, "a", eval_steps=1, packing=False)
    path = uneven_rows(spec.train_tokens)
    spec = spec.model_copy(update={"validation_tokens": path})
    one, four = (validation_loss(spec, size) for size in (1, 4))
    assert one == pytest.approx(four, abs=1e-6)


def test_fill_up_adds_rows_without_labels() -> None:
    rows = Dataset.from_list(
        [{"input_ids": [n, n + 1], "labels": [-100, n + 1], "seq_lengths": [2]} for n in range(3)]
    )
    filled = fill_up(rows, 4)
    assert len(filled) == 4
    assert filled[:3] == rows[:]
    assert filled[3] == {"input_ids": [0, 1], "labels": [-100, -100], "seq_lengths": [2]}
    assert fill_up(rows, 3) is rows
