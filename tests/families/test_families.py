"""Families of models from their configurations: prepared, trained, saved, loaded and asked.

Each is a tiny random model; its vocabulary, template and architecture are real.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer
from tasks.models.shape import stored_dtypes
from tasks.training.plan.choices import Packing
from tasks.training.process._results import save_model
from tasks.training.process._trainer import build_trainer
from tasks.training.process.events import StopFlag
from tasks.training.process.spec import TrainingSpec
from tests.support.families import FAMILIES, TEMPLATES, family_spec

pytestmark = pytest.mark.integration

PACKED = {
    "bamba": "",
    "cohere": "packed",
    "falcon": "",
    "gemma2": "packed",
    "gemma3": "packed",
    "gemma3_text": "packed",
    "glm4": "packed",
    "gpt2": "packed",
    "gpt_neox": "packed",
    "gpt_oss": "",
    "llama": "packed",
    "mamba": "",
    "mistral": "packed",
    "mixtral": "packed",
    "olmo": "packed",
    "opt": "packed",
    "phi3": "packed",
    "qwen2": "packed",
    "qwen3": "packed",
    "qwen3_5": "",
    "qwen3_moe": "packed",
    "smollm3": "packed",
}
"""Whether a family's rows are packed on a CPU."""


def by_itself(names: Iterable[str]) -> list[Any]:
    """Let any worker take the tests of a family."""
    groups = {name: pytest.mark.xdist_group(f"family {name}") for name in sorted(names)}
    return [pytest.param(name, marks=group) for name, group in groups.items()]


def trained(spec: TrainingSpec) -> Any:
    trainer = build_trainer(spec, StopFlag(spec.checkpoints))
    trainer.train()  # the trainer itself asserts that every trained tensor has a gradient
    spec.output.mkdir(exist_ok=True)
    save_model(trainer, spec)
    return trainer


def answer(spec: TrainingSpec) -> tuple[str, float]:
    """Ask the saved model the first trained row: its answer, and how probable its stop is."""
    import pyarrow.parquet as parquet

    folder = spec.output / "model"
    model, tokenizer = load_prepared_model(folder, "cpu").eval(), load_prepared_tokenizer(folder)
    row = parquet.read_table(spec.train_tokens).to_pylist()[0]
    labels = torch.tensor(row["labels"])
    first, last = (int(labels.ne(-100).nonzero()[place]) for place in (0, -1))
    ids = torch.tensor([row["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].float()
        asked = ids[:, :first]
        found = model.generate(
            input_ids=asked,
            attention_mask=torch.ones_like(asked),
            max_new_tokens=20,
            do_sample=False,
        )
    stop = float(logits[last - 1].softmax(-1)[labels[last]])
    return str(tokenizer.decode(found[0, first:])), stop


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", by_itself(FAMILIES))
def test_a_base_model_without_template_learns_to_answer_and_to_stop(
    tmp_path: Path, name: str, is_tied: bool
) -> None:
    spec = family_spec(
        tmp_path, name, is_tied=is_tied, dtype="bfloat16", answers=("Red.",), max_steps=100
    )
    trained(spec)
    text, stop = answer(spec)
    assert stop > 0.5
    assert text == "Red.<|im_end|>"
    assert stored_dtypes(spec.output / "model") == stored_dtypes(spec.model)


@pytest.mark.parametrize("name", by_itself(TEMPLATES))
def test_a_family_is_trained_with_its_own_template(tmp_path: Path, name: str) -> None:
    spec = family_spec(tmp_path, name, template=TEMPLATES[name], answers=("Red.",), max_steps=100)
    trained(spec)
    text, stop = answer(spec)
    assert stop > 0.5
    assert text.startswith("Red.<")


@pytest.mark.parametrize("name", by_itself(FAMILIES))
def test_a_full_training_packs_rows_that_the_model_keeps_apart(tmp_path: Path, name: str) -> None:
    spec = family_spec(tmp_path, name, method="full")
    trainer = trained(spec)
    assert trainer.choices.packing == (Packing.SHARED_PROMPT if PACKED[name] else Packing.OFF)
    assert answer(spec)
