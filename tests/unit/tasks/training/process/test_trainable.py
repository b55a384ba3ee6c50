"""What cannot be trained is refused before the baseline is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError
from tasks.models.prepared import PreparedFacts, write_facts
from tasks.training.process.trainable import build_without_weights, check_trainable
from tests.support.families import FAMILIES, make_family


def prepared(folder: Path, name: str) -> Path:
    make_family(name).save_pretrained(folder)
    write_facts(folder, PreparedFacts(added_token_ids=(7, 8)))
    return folder


def training(**lora: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"lora": lora})


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_families_can_have_the_default_adapters(tmp_path: Path, name: str) -> None:
    assert check_trainable(prepared(tmp_path, name), TrainingConfig()) is None


@pytest.mark.parametrize("lora", [{"dropout": 0.1}, {"use_dora": True}])
def test_what_fused_experts_cannot_have_is_refused(tmp_path: Path, lora: dict[str, Any]) -> None:
    folder = prepared(tmp_path, "mixtral")
    with pytest.raises(ConfigError, match="cannot have the adapters") as caught:
        check_trainable(folder, training(**lora))
    assert next(iter(lora)).removeprefix("use_") in caught.value.got.lower()
    check_trainable(folder, training(**lora, target_modules=["q_proj", "v_proj"]))


def test_layers_that_the_model_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such layer"):
        check_trainable(prepared(tmp_path, "gpt2"), training(target_modules=["q_proj"]))


def test_a_full_training_has_no_adapters_to_check(tmp_path: Path) -> None:
    full = TrainingConfig.model_validate({"method": "full"})
    assert check_trainable(tmp_path / "missing", full) is None


def test_models_are_built_without_weights(tmp_path: Path) -> None:
    model = build_without_weights(prepared(tmp_path, "llama"))
    assert model is not None
    assert {each.device.type for each in model.parameters()} == {"meta"}


def test_a_model_that_needs_numbers_is_checked_by_the_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any, **__: Any) -> Any:
        return torch.ones(2).sum().item()  # as code of a model's own may do

    folder = prepared(tmp_path, "llama")
    monkeypatch.setattr(AutoModelForCausalLM, "from_config", build)
    assert build_without_weights(folder) is None
    check_trainable(folder, training(target_modules=["no_such_layer"]))
