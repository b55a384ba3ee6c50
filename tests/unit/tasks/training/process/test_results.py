"""What is saved: in the number format of the base, and with every setting of the prepared model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer, read_facts
from tasks.models.shape import stored_dtypes
from tasks.training.plan.choices import Precision
from tasks.training.process._results import cast_as_stored, merge_adapter, save_model
from tasks.training.process._trainer import build_trainer
from tasks.training.process.events import StopFlag
from tests.support.families import family_spec, make_family


def trained(folder: Path, name: str, **settings: Any) -> tuple[Any, Any]:
    spec = family_spec(folder, name, **settings)
    trainer = build_trainer(spec, StopFlag(spec.checkpoints))
    trainer.train()
    return trainer, spec


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_model_is_saved_in_the_format_of_its_base(
    tmp_path: Path, method: str, dtype: str
) -> None:
    trainer, spec = trained(tmp_path, "llama", method=method, dtype=dtype)
    save_model(trainer, spec)
    saved = spec.output / "model"
    assert stored_dtypes(saved) == stored_dtypes(spec.model)
    assert stored_dtypes(saved)[0] == dtype
    assert json.loads((saved / "config.json").read_text())["dtype"] == dtype
    found = load_prepared_model(saved, "cuda")  # as a GPU would be given it
    assert found.dtype == getattr(torch, dtype)
    assert not found.lm_head.weight.equal(load_prepared_model(spec.model, "cuda").lm_head.weight)


def test_frozen_weights_keep_their_precision_where_training_rounds_them(tmp_path: Path) -> None:
    spec = family_spec(tmp_path, "llama")
    on_gpu = {"weights_dtype": "bfloat16", "precision": Precision.BF16}
    choices = spec.choices.model_copy(update=on_gpu)
    spec = spec.model_copy(update={"choices": choices})
    trainer = build_trainer(spec, StopFlag(spec.checkpoints))
    assert trainer.model.dtype == torch.bfloat16
    save_model(trainer, spec)
    base, saved = (load_prepared_model(f, "cpu") for f in (spec.model, spec.output / "model"))
    rows = base.model.embed_tokens.weight[:5]
    assert saved.model.embed_tokens.weight[:5].equal(rows)
    assert not rows.equal(rows.bfloat16().float())


def test_an_adapter_is_merged_into_both_sides_of_new_tokens(tmp_path: Path) -> None:
    trainer, spec = trained(tmp_path, "llama", dtype="bfloat16")
    new = list(read_facts(spec.model).added_token_ids)
    trained_model = trainer.model
    trained_rows = trained_model.get_output_embeddings().weight[new].detach().clone()
    save_model(trainer, spec)
    merged = merge_adapter(spec)
    torch.testing.assert_close(merged.lm_head.weight[new], trained_rows)
    cast_as_stored(merged, spec.model)
    saved = load_prepared_model(spec.output / "model", "cuda")
    for name, each in saved.named_parameters():
        torch.testing.assert_close(merged.get_parameter(name), each, atol=1e-2, rtol=1e-2)
    assert not saved.lm_head.weight[new].equal(saved.model.embed_tokens.weight[new])


def test_complete_weights_of_a_sharded_model_are_cast_too(tmp_path: Path) -> None:
    base = make_family("llama").bfloat16()
    base.save_pretrained(tmp_path)
    model = make_family("llama")
    weights = {**model.state_dict(), "count": torch.tensor([1])}
    found = cast_as_stored(model, tmp_path, weights)
    assert found is not None
    assert found.pop("count").dtype == torch.int64
    assert {each.dtype for each in found.values()} == {model.dtype} == {torch.bfloat16}


def test_template_stop_and_generation_settings_survive(tmp_path: Path) -> None:
    trainer, spec = trained(tmp_path, "llama")
    save_model(trainer, spec)
    saved = spec.output / "model"
    before, after = (load_prepared_tokenizer(folder) for folder in (spec.model, saved))
    assert after.chat_template == before.chat_template
    assert (after.eos_token, after.pad_token) == (before.eos_token, before.pad_token)
    name = "generation_config.json"
    settings = [json.loads((folder / name).read_text()) for folder in (spec.model, saved)]
    stops = [each["eos_token_id"] for each in settings]  # one token, or a list of one
    assert [each if isinstance(each, list) else [each] for each in stops] == [[258], [258]]
    assert settings[0]["pad_token_id"] == settings[1]["pad_token_id"]
    assert read_facts(saved) == read_facts(spec.model)
