"""Compute the language-model head only where there is a label.

TRL 1.16's fused head, off CUDA and XPU, projects every position, computes entropy and projects
again in the backward pass: 19 % of a step at 135 M parameters, and also the prompts' positions.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from schemas.errors import TrainingContractBroken
from tasks.tokens.token_file import NOT_TRAINED

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.utils import ModelOutput
    from trl.trainer.utils import FusedCausalLMOutput

DEVICES = ("cpu", "mps")
"""Where TRL 1.16 has no Triton kernel and tensors may change their shape from step to step."""
LARGEST_LOGITS_BYTES = 2**30
"""Logits beyond this are computed in pieces, and again in the backward pass."""
HEAD_TOLERANCE = {True: 0.5, False: 0.05}
"""Largest difference of a log probability, in standard deviations, in 16 bits and in 32."""
LOGIT_CHANGES = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)
"""Settings by which a model changes its logits after the head; TRL 1.16 handles them."""


def has_plain_loss(config: PreTrainedConfig) -> bool:
    """False where a model scales or caps its logits, or mixture-of-experts routers add a loss."""
    text = config.get_text_config()
    changes = any(getattr(text, name, None) not in (None, 1.0) for name in LOGIT_CHANGES)
    return not changes and not getattr(text, "output_router_logits", False)


def score_labelled_only(model: PreTrainedModel, device: str) -> bool:
    """Replace TRL's head where ours gives the same loss and gradients.

    Call it after making the `SFTTrainer` and before anything wraps the model for training.

    Args:
        model: The trainer's, as TRL patched it; with PEFT, the wrapped model.
        device: Where training runs.

    Returns:
        False where TRL's head stays.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if device not in DEVICES or not has_plain_loss(base.config):
        return False
    fused_forward = base.forward

    @functools.wraps(type(base).forward)  # `generate` checks its arguments against the signature
    def forward(
        self: PreTrainedModel,
        *args: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        **options: Any,
    ) -> ModelOutput:
        is_ours = fused_lm_head and labels is not None and options.get("shift_labels") is None
        if not is_ours:
            asked = {"fused_lm_head": fused_lm_head} if fused_lm_head else {}
            given = {"labels": labels} if labels is not None else {}
            return fused_forward(*args, **asked, **given, **options)
        n_items = options.pop("num_items_in_batch", None)
        options.pop("shift_labels", None)
        states = self.base_model(*args, **{**options, "use_cache": False}).last_hidden_state
        return labelled_output(self.get_output_embeddings(), states, labels, n_items)

    base.forward = types.MethodType(forward, base)
    return True


def check_head(model: PreTrainedModel, row: Sequence[int]) -> None:
    """Check that the head that computes the loss gives what the model itself gives.

    Some models change states or logits in ways of their own on the last stretch, which neither
    TRL's head nor ours can know.

    Args:
        model: The trainer's, on the device of the training, not wrapped yet.
        row: Token ids, 2 or more.

    Raises:
        TrainingContractBroken: The loss would be another one than the model's.
    """
    import torch

    ids = torch.tensor([list(row)], device=model.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        own = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        found = model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs[0].float()
    model.train(was_training)
    difference = float((found - own).abs().max() / own.std())
    is_half = model.dtype != torch.float32 or torch.is_autocast_enabled(model.device.type)
    if not difference < HEAD_TOLERANCE[is_half]:
        raise TrainingContractBroken(
            "the loss would be another one than the model's own",
            where=type(model).__name__,
            expected="the log probabilities that the model itself computes",
            got=f"a difference of {difference:.2g} standard deviations",
            fix="choose a model of another family, see docs/training.md",
        )


def labelled_output(
    head: nn.Module, states: Tensor, labels: Tensor, n_items: Tensor | int | None
) -> FusedCausalLMOutput:
    """Score the labelled positions, in the form that TRL's loss reads.

    Args:
        head: Makes logits from states.
        states: Last hidden states.
        labels: The tokens to predict; -100 = not trained.
        n_items: Divides the summed loss; None divides it by the number of labels.

    Shape:
        states (batch, seq, hidden), labels (batch, seq); the state at t predicts the label at
        t + 1, so every field is (batch, seq - 1).

    Returns:
        TRL's `FusedCausalLMOutput`; its entropy, shown only in TRL's log, is left at zero.
    """
    from trl.trainer.utils import FusedCausalLMOutput

    targets = labels[:, 1:].to(states.device)
    mask = targets != NOT_TRAINED
    scores, is_top1 = score_tokens(head, states[:, :-1][mask], targets[mask])
    # Scattered into zeros, a batch without a label still has a (zero) gradient.
    log_probs = scores.new_zeros(mask.shape).masked_scatter(mask, scores)
    return FusedCausalLMOutput(
        loss=-log_probs.sum() / (mask.sum().clamp(min=1) if n_items is None else n_items),
        log_probs=log_probs,
        entropy=scores.new_zeros(()),
        is_top1=is_top1.new_zeros(mask.shape).masked_scatter(mask, is_top1),
        label_mask=mask,
    )


def score_tokens(head: nn.Module, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Score tokens, in as few pieces as memory allows.

    Args:
        head: Makes logits from states; called as a module, so that whatever shards or wraps it
            works as in the model's own forward.
        states: The states that predict the tokens.
        targets: The tokens.

    Shape:
        states (tokens, hidden), targets and both results (tokens,).

    Returns:
        log p of each token, and whether no token is more likely.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    row_bytes = 4 * int(getattr(head, "out_features", 0) or head.weight.shape[0])
    n_pieces = max(1, -(-states.shape[0] * row_bytes // LARGEST_LOGITS_BYTES))
    if n_pieces == 1:
        return _score_piece(head, states, targets)
    pieces = [
        checkpoint(_score_piece, head, *piece, use_reentrant=False)
        for piece in zip(states.chunk(n_pieces), targets.chunk(n_pieces), strict=True)
    ]
    scores, is_top1 = zip(*pieces, strict=True)
    return torch.cat(scores), torch.cat(is_top1)


def _score_piece(head: nn.Module, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return score_logits()(head(states).float(), targets)


@functools.cache
def score_logits() -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return a function of logits and targets that does what `score_tokens` does, in their memory.

    The logits become probabilities and then their own gradient, so that the largest tensor of a
    step exists once instead of three times. A tie counts as right.
    """
    import torch
    from torch.autograd.function import once_differentiable

    class ScoreLogits(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            largest = logits.amax(dim=1)
            chosen = logits.gather(1, targets[:, None])[:, 0]
            powers = logits.sub_(largest[:, None]).exp_()
            total = powers.sum(dim=1)
            ctx.save_for_backward(powers, total, targets)
            is_top1 = chosen >= largest
            ctx.mark_non_differentiable(is_top1)
            return chosen - largest - total.log(), is_top1

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:
            powers, total, targets = ctx.saved_tensors
            result = powers.mul_((-gradient / total)[:, None])
            return result.scatter_add_(1, targets[:, None], gradient[:, None]), None

    score: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = ScoreLogits.apply
    return score
