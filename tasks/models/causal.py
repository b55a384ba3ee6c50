"""Check that a model predicts each token from those before it only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import ModelSourceError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

N_PROBE_TOKENS = 8
TOLERANCE = 1e-3
"""Largest change of a logit, in standard deviations: a causal model computes the same again."""


def check_causal(model: PreTrainedModel, source: str) -> None:
    """Refuse encoders such as BERT, which transformers loads by the same class.

    In training they would see the answer that they are to predict. Models whose attention says that
    it is causal are not tried; nor are those that cannot run where they were loaded, as with kernels
    for GPUs.

    Args:
        model: In evaluation mode.
        source: Its name in the configuration.

    Raises:
        ModelSourceError: Later tokens change earlier predictions.
    """
    import torch

    if any(getattr(module, "is_causal", False) is True for module in model.modules()):
        return
    tokens = torch.arange(1, N_PROBE_TOKENS + 1)[None] % model.get_input_embeddings().num_embeddings
    changed = tokens.clone()
    changed[0, -1] = 0
    try:
        with torch.no_grad():
            logits, others = (model(input_ids=ids).logits[0].float() for ids in (tokens, changed))
    except (RuntimeError, ValueError):
        return
    change = (logits - others)[:-1].abs().max() / logits.std()
    if change > TOLERANCE:
        raise ModelSourceError(
            "the model is not a causal language model",
            where=f"model.source={source}",
            expected="a decoder that predicts each token from those before it, such as Llama",
            got=f"{type(model).__name__}: later tokens change what it predicts before them",
            fix="set model.source to such a model",
        )
