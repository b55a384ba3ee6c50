"""Families of models from their configurations: prepared, trained, saved, loaded and asked.

Each is a tiny random model; its vocabulary, template and architecture are real.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer
from tasks.models.shape import read_position_limit, stored_dtypes
from tasks.training.plan.choices import Packing
from tasks.training.process._results import save_model
from tasks.training.process._trainer import build_trainer
from tasks.training.process.events import StopFlag
from tasks.training.process.spec import TrainingSpec
from tests.support.families import (
    FAMILIES,
    TEMPLATES,
    family_spec,
    row_states,
    states_alone,
    with_packing,
)

pytestmark = pytest.mark.integration

BOTH = frozenset((Packing.SHARED_PROMPT, Packing.PADDING_FREE))
NONE: frozenset[Packing] = frozenset()


@dataclass(frozen=True)
class Expected:
    """What works with a family, as the table in docs/training.md says too."""

    packing: frozenset[Packing] = BOTH
    """Packings that keep rows apart without kernels for GPUs."""
    has_sdpa: bool = True
    positions: int | None = 256
    """Tokens of the longest row; None for any number."""
    n_steps: int = 100
    """Steps that one row takes, from random weights."""


EXPECTED = dict.fromkeys(FAMILIES, Expected()) | {
    "bamba": Expected(NONE),
    "falcon": Expected(NONE, positions=2048),
    "gpt_oss": Expected(NONE, has_sdpa=False, positions=32 * 4096),
    "mamba": Expected(NONE, has_sdpa=False, positions=None, n_steps=300),
    "olmo": Expected(n_steps=200),
    "opt": Expected(frozenset((Packing.SHARED_PROMPT,))),
    "qwen3_5": Expected(NONE),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave the other cores to the other worker: the models are too small for several threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


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


def stops(settings: dict[str, Any]) -> set[int]:
    """Tokens at which generation stops; transformers writes a list of one too."""
    found = settings["eos_token_id"]
    return set(found) if isinstance(found, list) else {found}


def check_saved(spec: TrainingSpec) -> None:
    """Compare what was saved with the prepared model: format, template, and how it generates."""
    saved = spec.output / "model"
    assert stored_dtypes(saved) == stored_dtypes(spec.model)
    before, after = (load_prepared_tokenizer(folder) for folder in (spec.model, saved))
    assert (after.chat_template, after.eos_token) == (before.chat_template, before.eos_token)
    settings = json.loads((saved / "generation_config.json").read_text(encoding="utf-8"))
    expected = json.loads((spec.model / "generation_config.json").read_text(encoding="utf-8"))
    names = ("pad_token_id", "bos_token_id", "temperature", "top_p", "do_sample")
    assert [settings.get(name) for name in names] == [expected.get(name) for name in names]
    assert stops(settings) == stops(expected)
    assert (settings["temperature"], settings["do_sample"]) == (0.6, True)


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied, with BOS"])
@pytest.mark.parametrize("name", by_itself(FAMILIES))
def test_a_base_model_without_template_learns_to_answer_and_to_stop(
    tmp_path: Path, name: str, is_tied: bool
) -> None:
    spec = family_spec(
        tmp_path,
        name,
        is_tied=is_tied,
        has_bos=not is_tied,
        dtype="bfloat16",
        answers=("Red.",),
        max_steps=EXPECTED[name].n_steps,
    )
    trainer = trained(spec)
    assert trainer.choices.attention == ("sdpa" if EXPECTED[name].has_sdpa else "default")
    text, stop = answer(spec)
    assert stop > 0.5
    assert text == "Red.<|im_end|>"
    check_saved(spec)


@pytest.mark.parametrize("name", by_itself(TEMPLATES))
def test_a_family_is_trained_with_its_own_template(tmp_path: Path, name: str) -> None:
    spec = family_spec(tmp_path, name, template=TEMPLATES[name], answers=("Red.",), max_steps=100)
    trained(spec)
    text, stop = answer(spec)
    assert stop > 0.5
    assert "Red.<" in text
    check_saved(spec)


@pytest.mark.parametrize("packing", sorted(BOTH))
@pytest.mark.parametrize("name", by_itself(FAMILIES))
def test_a_full_training_packs_only_rows_that_are_the_same_as_alone(
    tmp_path: Path, name: str, packing: Packing
) -> None:
    spec = with_packing(family_spec(tmp_path, name, method="full"), packing)
    trainer = build_trainer(spec, StopFlag(spec.checkpoints))
    is_packed = packing in EXPECTED[name].packing
    assert trainer.choices.packing == (packing if is_packed else Packing.OFF)
    alone = {len(row): row for row in states_alone(trainer, spec)}
    together = row_states(trainer)
    assert sorted(map(len, together)) == sorted(alone)
    for row in together:
        torch.testing.assert_close(row, alone[len(row)], atol=2e-4, rtol=1e-3)
    if packing is Packing.SHARED_PROMPT:
        trained(spec)
        check_saved(spec)
        assert answer(spec)


@pytest.mark.parametrize("name", by_itself(FAMILIES))
def test_the_longest_row_is_known_before_training(tmp_path: Path, name: str) -> None:
    spec = family_spec(tmp_path, name)
    assert read_position_limit(spec.model) == EXPECTED[name].positions


def test_the_table_of_families_says_what_works() -> None:
    lines = Path("docs/training.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    table = {row[0].strip("`"): row[1:5] for row in rows if row[0].strip("`") in FAMILIES}
    assert table == {
        name: [
            *("yes" if each in expected.packing else "off" for each in sorted(BOTH, reverse=True)),
            "sdpa" if expected.has_sdpa else "default",
            "positions" if expected.positions else "any",
        ]
        for name, expected in EXPECTED.items()
    }
