"""LoRA layers that add in place: the results, gradients and merged weights of PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.config.training import Method, TrainingConfig
from tasks.training.plan.choices import Choices, Precision
from tasks.training.process._adapter import add_in_place
from tasks.training.process._trainer import build_trainer
from tasks.training.process.events import StopFlag
from tests.support.toy import load_toy, toy_spec

LORA = TrainingConfig(method=Method.LORA)


@pytest.fixture
def choices(tmp_path: Path) -> Choices:
    """Choices for a CPU in fp32."""
    found = toy_spec(tmp_path, "machine", max_steps=1).choices
    return found.model_copy(update={"device": "cpu", "precision": Precision.FP32})


def wrap(folder: Path, **settings: Any) -> Any:
    """Return a toy model with an adapter that changes its results."""
    from peft import LoraConfig, get_peft_model

    lora = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(load_toy(folder), LoraConfig(**lora | settings))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def run(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return logits and the gradients of what is trained."""
    ids = torch.randint(0, 200, (3, 17), generator=torch.Generator().manual_seed(1))
    logits = model(input_ids=ids).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    gradients = {name: each.grad.clone() for name, each in trained.items()}
    model.zero_grad()
    return logits.detach(), gradients


@pytest.mark.parametrize("is_recomputed", [False, True])
def test_results_and_gradients_are_those_of_peft(
    tmp_path: Path, choices: Choices, is_recomputed: bool
) -> None:
    model = wrap(tmp_path / "toy")
    if is_recomputed:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
        model.train()
    logits, gradients = run(model)
    assert add_in_place(model, LORA, choices) == sum("lora_A" in name for name in gradients) > 0
    ours, our_gradients = run(model)
    torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        assert gradient.any()
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-5, atol=1e-7)


def test_adapter_is_switched_off_and_merged_as_before(tmp_path: Path, choices: Choices) -> None:
    model = wrap(tmp_path / "toy")
    ids = torch.arange(9)[None]
    with torch.no_grad():
        with model.disable_adapter():
            plain = model(input_ids=ids).logits
        assert add_in_place(model, LORA, choices)
        with model.disable_adapter():
            assert torch.equal(model(input_ids=ids).logits, plain)
        adapted = model(input_ids=ids).logits
        model.merge_adapter()
        torch.testing.assert_close(model(input_ids=ids).logits, adapted, rtol=1e-5, atol=1e-5)
        model.unmerge_adapter()
        merged = model.merge_and_unload()(input_ids=ids).logits
    assert not torch.allclose(adapted, plain, atol=1e-3)
    torch.testing.assert_close(merged, adapted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_other_adapters_stay_pefts(
    tmp_path: Path, choices: Choices, settings: dict[str, object]
) -> None:
    assert add_in_place(wrap(tmp_path / "toy", **settings), LORA, choices) == 0


@pytest.mark.parametrize(
    ("training", "chosen"),
    [
        ({"processes": 2}, {}),
        ({"accelerate_config": "own.yaml"}, {}),
        ({"method": Method.FULL}, {}),
        ({}, {"device": "cuda"}),
        ({}, {"precision": Precision.BF16}),
    ],
)
def test_other_trainings_keep_pefts_layers(
    tmp_path: Path, choices: Choices, training: dict[str, object], chosen: dict[str, object]
) -> None:
    changed = LORA.model_copy(update=training), choices.model_copy(update=chosen)
    assert add_in_place(wrap(tmp_path / "toy"), *changed) == 0


def test_trainer_adds_in_place(tmp_path: Path) -> None:
    spec = toy_spec(tmp_path, "toy", max_steps=1, method=Method.LORA)
    model = build_trainer(spec, StopFlag(spec.checkpoints)).model
    layers = [each for name, each in model.named_modules() if hasattr(each, "lora_A")]
    assert layers
    assert all("forward" in vars(each) for each in layers)
