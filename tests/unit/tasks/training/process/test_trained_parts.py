"""What is trained: new tokens on both sides of the model, and only what text reaches."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from schemas.errors import GradientIsZero, NothingTrainable
from tasks.training.process._trained_parts import (
    check_gradients,
    check_new_tokens,
    freeze_other_parts,
    has_swapped_weights,
    keeps_gradients,
    new_token_arguments,
    text_decoder_name,
    unadapted_parts,
)
from tasks.training.process._trainer import build_trainer
from tasks.training.process.events import StopFlag
from tasks.training.process.spec import TrainingSpec
from tests.support.families import family_spec, make_family


def build(spec: TrainingSpec) -> Any:
    return build_trainer(spec, StopFlag(spec.checkpoints))


def stop_probability(trainer: Any) -> float:
    """Of the trained row, at the place of its stop token."""
    row = next(iter(trainer.get_train_dataloader()))
    ids, labels = row["input_ids"], row["labels"]
    place = int((labels[0] != -100).nonzero()[-1])
    with torch.no_grad():
        logits = trainer.model.eval()(input_ids=ids[:, : place + 1]).logits
    assert int(labels[0, place]) == trainer.processing_class.eos_token_id
    return float(logits[0, place - 1].softmax(-1)[labels[0, place]])


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_base_model_learns_its_new_stop_token(tmp_path: Path, is_tied: bool) -> None:
    spec = family_spec(
        tmp_path, "llama", is_tied=is_tied, answers=("Red.",), max_steps=100, packing=False
    )
    trainer = build(spec)
    before = stop_probability(trainer)
    trainer.train()
    assert before < 0.1
    assert stop_probability(trainer) > 0.5


def test_embedding_and_head_are_trained_where_they_differ() -> None:
    tied, untied = (make_family("llama", is_tied=each) for each in (True, False))
    embedding, head = "model.embed_tokens", "lm_head"
    assert new_token_arguments(tied, [7, 8]) == {"trainable_token_indices": {embedding: [7, 8]}}
    both = {embedding: [7, 8], head: [7, 8]}
    assert new_token_arguments(untied, [7, 8]) == {"trainable_token_indices": both}
    assert new_token_arguments(untied, []) == {}


def test_a_head_with_a_bias_is_trained_completely() -> None:
    model = make_family("llama")
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.config.vocab_size))
    found = new_token_arguments(model, [7])
    assert found == {
        "trainable_token_indices": {"model.embed_tokens": [7]},
        "modules_to_save": ["lm_head"],
    }


@pytest.mark.parametrize("target", [["q_proj", "lm_head"], r".*(q_proj|lm_head)"])
def test_a_head_with_an_adapter_is_not_trained_twice(target: Any) -> None:
    found = new_token_arguments(make_family("llama"), [7], target)
    assert found == {"trainable_token_indices": {"model.embed_tokens": [7]}}


@pytest.mark.parametrize("is_tied", [True, False])
def test_frozen_output_rows_are_refused(is_tied: bool) -> None:
    from peft import LoraConfig, get_peft_model

    model = make_family("llama", is_tied=is_tied)
    check_new_tokens(model, [7])  # every weight is trained
    settings: dict[str, Any] = {"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    rows = new_token_arguments(model, [7, 8])
    check_new_tokens(get_peft_model(model, LoraConfig(**settings, **rows)), [7, 8])
    model = make_family("llama", is_tied=is_tied)
    embedding_only = {"trainable_token_indices": {"model.embed_tokens": [7]}}
    frozen = get_peft_model(model, LoraConfig(**settings, **embedding_only))
    check_new_tokens(frozen, [])
    with pytest.raises(NothingTrainable, match="output rows are frozen") as caught:
        check_new_tokens(frozen, [7, 8])
    assert caught.value.got == ("1" if is_tied else "0")


def test_text_models_have_no_other_parts() -> None:
    for name in ("llama", "qwen3_5", "gemma3_text"):
        assert text_decoder_name(make_family(name)) == ""
        assert unadapted_parts(make_family(name)) is None


@pytest.mark.parametrize(("name", "mixer"), [("mamba", "mixer"), ("bamba", "mamba")])
def test_what_kernels_read_directly_gets_no_adapter(name: str, mixer: str) -> None:
    from peft import LoraConfig, get_peft_model

    model = make_family(name)
    settings: dict[str, Any] = {"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(
        model, LoraConfig(**settings, exclude_modules=unadapted_parts(model))
    ).named_parameters()
    trained = {each.split(".lora_")[0] for each, weight in adapted if weight.requires_grad}
    assert {each.rpartition(".")[2] for each in trained if f".{mixer}." in each} == {"in_proj"}
    assert any(".q_proj" in each for each in trained) == (name == "bamba")


@pytest.mark.parametrize(("name", "is_swapped"), [("gpt2", True), ("llama", False)])
def test_layers_of_gpt2_keep_their_weights_the_other_way_round(name: str, is_swapped: bool) -> None:
    assert has_swapped_weights(make_family(name)) == is_swapped


@pytest.mark.parametrize("method", ["lora", "full"])
def test_only_the_text_decoder_of_a_multimodal_model_is_trained(
    tmp_path: Path, method: str
) -> None:
    trainer = build(family_spec(tmp_path, "gemma3", method=method, max_steps=1))
    trained = [name for name, each in trainer.model.named_parameters() if each.requires_grad]
    assert not [name for name in trained if "vision" in name or "projector" in name]
    assert [name for name in trained if "language_model" in name]
    trainer.train()
    assert not [note for note in trainer.notes if "not trained" in note]


def test_a_full_training_leaves_the_head_trained() -> None:
    model = make_family("gemma3")
    freeze_other_parts(model)
    assert model.get_output_embeddings().weight.requires_grad
    assert model.get_input_embeddings().weight.requires_grad
    assert not any(each.requires_grad for each in model.model.vision_tower.parameters())


def test_parts_that_the_loss_does_not_reach() -> None:
    from peft import LoraConfig, get_peft_model

    def adapted() -> Any:
        return get_peft_model(make_family("gemma3"), LoraConfig(r=2, target_modules="all-linear"))

    for model in (adapted(), make_family("gemma3")):
        model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
        if hasattr(model, "peft_config"):
            with pytest.raises(GradientIsZero, match="does not reach everything") as caught:
                check_gradients(model)
            assert "vision_tower" in caught.value.where
        else:
            assert "does not use for text are not trained" in check_gradients(model)
            assert check_gradients(model) == ""


@pytest.mark.parametrize(
    ("kind", "is_kept"),
    [("NO", True), ("MULTI_CPU", True), ("MULTI_GPU", True), ("FSDP", False), ("DEEPSPEED", False)],
)
def test_shards_keep_no_gradients_to_look_at(kind: str, is_kept: bool) -> None:
    from accelerate.utils import DistributedType

    accelerator: Any = SimpleNamespace(distributed_type=DistributedType[kind])
    assert keeps_gradients(accelerator) == is_kept


def test_a_head_with_an_adapter_can_tell_new_tokens() -> None:
    from peft import LoraConfig, get_peft_model

    model = make_family("llama")
    rows = new_token_arguments(model, [7], ["q_proj", "lm_head"])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "lm_head"], **rows))
    assert check_new_tokens(adapted, [7]) is None


def test_the_head_of_a_multimodal_model_can_have_an_adapter() -> None:
    pattern = unadapted_parts(make_family("gemma3"))
    assert pattern is not None
    assert re.fullmatch(pattern, "model.vision_tower.vision_model.encoder")
    assert not re.fullmatch(pattern, "lm_head")
    assert not re.fullmatch(pattern, "model.language_model.layers.0.mlp.up_proj")


def test_experts_that_no_token_was_routed_to_are_no_fault() -> None:
    model = torch.nn.Module()
    model.experts = torch.nn.ModuleDict({"layer": torch.nn.ModuleDict()})
    model.add_module("mlp", torch.nn.Module())
    model.mlp.experts = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    assert check_gradients(model) == ""
