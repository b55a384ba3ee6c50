"""The head on labelled positions only: TRL's loss and gradients, without the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, ModernBertDecoderConfig
from trl.trainer.utils import add_fused_lm_head

from schemas.errors import TrainingContractBroken
from tasks.training.process import _lm_head
from tasks.training.process._lm_head import (
    check_head,
    has_plain_loss,
    score_labelled_only,
    score_logits,
)
from tests.support.families import make_family
from tests.support.toy import load_toy

OUTPUTS = ("log_probs", "entropy", "is_top1")


def make_batch(*, is_labelled: bool = True) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 200, (3, 17), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :6] = -100
    labels[1, 9:] = -100
    if not is_labelled:
        labels[:] = -100
    return {"input_ids": ids, "labels": labels}


def run(model: Any, batch: dict[str, torch.Tensor], **options: Any) -> tuple[Any, dict[str, Any]]:
    outputs = model(**batch, fused_lm_head=True, **options)
    outputs.loss.backward()
    gradients = {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    model.zero_grad()
    return outputs, gradients


def assert_same(ours: tuple[Any, dict[str, Any]], theirs: tuple[Any, dict[str, Any]]) -> None:
    for name in ("loss", "log_probs"):
        torch.testing.assert_close(ours[0][name], theirs[0][name], rtol=1e-5, atol=1e-5)
    for name in ("label_mask", "is_top1"):
        assert torch.equal(ours[0][name].bool(), theirs[0][name].bool())
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, theirs[1][name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("name", ["llama", "cohere", "gemma2", "mixtral"])
def test_the_loss_is_that_of_the_models_own_head(name: str, is_ours: bool) -> None:
    model = make_family(name)
    add_fused_lm_head(model)
    if is_ours:
        score_labelled_only(model, "cpu")
    assert check_head(model, range(5, 25)) is None


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_head_that_is_not_all_of_the_models_own_is_refused(is_ours: bool) -> None:
    config = ModernBertDecoderConfig(
        vocab_size=99,
        pad_token_id=0,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    model = AutoModelForCausalLM.from_config(config)
    add_fused_lm_head(model)
    if is_ours:
        assert score_labelled_only(model, "cpu")
    with pytest.raises(TrainingContractBroken, match="another one than the model's own"):
        check_head(model, range(5, 25))


@pytest.mark.parametrize("is_labelled", [True, False])
@pytest.mark.parametrize("n_items", [None, 7])
def test_head_has_the_loss_and_gradients_of_trls(
    tmp_path: Path, is_labelled: bool, n_items: int | None
) -> None:
    model = load_toy(tmp_path / "toy")
    add_fused_lm_head(model, outputs=OUTPUTS)
    batch = make_batch(is_labelled=is_labelled)
    theirs = run(model, batch, num_items_in_batch=n_items)
    assert score_labelled_only(model, "cpu")
    ours = run(model, batch, num_items_in_batch=n_items)
    assert_same(ours, theirs)
    assert not ours[0].entropy.any()


def test_head_in_pieces_has_the_same_loss_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_toy(tmp_path / "toy")
    add_fused_lm_head(model, outputs=OUTPUTS)
    theirs = run(model, make_batch())
    assert score_labelled_only(model, "cpu")
    monkeypatch.setattr(_lm_head, "LARGEST_LOGITS_BYTES", 5 * 4 * model.config.vocab_size)
    assert_same(run(model, make_batch()), theirs)


def test_scores_and_gradients_are_as_exact_as_torchs() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(64, 5000, generator=generator)
    targets = torch.randint(0, 5000, (64,), generator=generator)
    gradient = torch.randn(64, generator=generator)

    def errors(score: Any) -> tuple[float, float]:
        leaf = logits.clone().requires_grad_()
        scores = score(leaf * 1.0)
        scores.backward(gradient)
        wrong = (leaf.grad - exact_leaf.grad).norm() / exact_leaf.grad.norm()
        return float((scores - exact).detach().abs().max()), float(wrong)

    exact_leaf = logits.double().requires_grad_()
    exact = exact_leaf.log_softmax(1).gather(1, targets[:, None])[:, 0]
    exact.backward(gradient.double())
    ours = errors(lambda made: score_logits()(made, targets)[0])
    torchs = errors(lambda made: made.log_softmax(1).gather(1, targets[:, None])[:, 0])
    assert all(mine <= 2 * theirs for mine, theirs in zip(ours, torchs, strict=True))


def test_head_works_with_an_adapter_that_trains_rows_of_tied_embeddings(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = load_toy(tmp_path / "toy")
    add_fused_lm_head(model, outputs=OUTPUTS)
    settings = LoraConfig(
        r=2, target_modules="all-linear", task_type="CAUSAL_LM", trainable_token_indices=[3, 4]
    )
    wrapped = get_peft_model(model, settings)
    labels = make_batch()["labels"]
    expected = wrapped(input_ids=make_batch()["input_ids"]).logits[:, :-1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(expected, labels[:, 1:].flatten())
    assert score_labelled_only(wrapped, "cpu")
    ours, gradients = run(wrapped, make_batch())
    assert ours.loss.item() == pytest.approx(loss.item(), abs=1e-5)
    assert any("trainable_tokens" in name for name in gradients)


def test_other_calls_go_where_they_went(tmp_path: Path) -> None:
    model = load_toy(tmp_path / "toy").eval()
    batch = make_batch()
    plain, with_loss = model(input_ids=batch["input_ids"]).logits, model(**batch).loss
    add_fused_lm_head(model, outputs=OUTPUTS)
    shifted = {"input_ids": batch["input_ids"], "shift_labels": batch["labels"]}
    theirs = model(**shifted, fused_lm_head=True).entropy
    assert score_labelled_only(model, "cpu")
    assert torch.equal(model(input_ids=batch["input_ids"]).logits, plain)
    assert torch.equal(model(**batch).loss, with_loss)
    assert torch.equal(model(**shifted, fused_lm_head=True).entropy, theirs)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("logit_scale", 0.5), ("final_logit_softcapping", 30.0), ("output_router_logits", True)],
)
def test_models_that_change_their_logits_or_loss_keep_trls_head(
    tmp_path: Path, setting: str, value: object
) -> None:
    model = load_toy(tmp_path / "toy")
    assert has_plain_loss(model.config)
    setattr(model.config, setting, value)
    forward = model.forward
    assert not score_labelled_only(model, "cpu")
    assert model.forward == forward


def test_gpus_keep_trls_head(tmp_path: Path) -> None:
    assert not score_labelled_only(load_toy(tmp_path / "toy"), "cuda")
