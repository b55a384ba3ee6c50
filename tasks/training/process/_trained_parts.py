"""Which parts of a model are trained: the text decoder, and the rows of new tokens on both sides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from schemas.errors import GradientIsZero, NothingTrainable

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn
    from transformers import PreTrainedModel

EXPERTS = ".experts."
"""In the names of parts that a step may leave out: tokens are routed to some experts only."""
SHOWN_NAMES = 3
READ_BY_KERNELS = ("out_proj", "x_proj", "dt_proj", "conv1d")
"""Parts of a state space mixer whose weights the kernels of mamba_ssm read past an adapter."""


def text_decoder_name(model: PreTrainedModel) -> str:
    """Return the full name of the text decoder of a multimodal model; empty for a text model."""
    if model.config.get_text_config(decoder=True) is model.config:
        return ""
    return _name_of(model, model.get_decoder())


def unadapted_parts(model: PreTrainedModel) -> str | None:
    """Return a pattern of the modules that get no adapter; None where all may have one.

    Text never reaches the towers of images and sounds: an adapter there would have no gradient.
    Neither would one inside a state space mixer, where kernels for GPUs read the weights directly.
    """
    patterns = []
    if name := text_decoder_name(model):
        head = _name_of(model, model.get_output_embeddings())
        patterns.append(rf"(?!{re.escape(name)}\.|{re.escape(head)}$).*")
    mixers = [re.escape(name) for name, each in model.named_modules() if _is_state_space(each)]
    if mixers:
        patterns.append(rf"(?:{'|'.join(mixers)})\.(?:{'|'.join(READ_BY_KERNELS)})")
    return "|".join(f"(?:{each})" for each in patterns) or None


def _is_state_space(module: nn.Module) -> bool:
    """Return whether a module is a mixer of Mamba, of whatever version, by its weights A and D."""
    from torch.nn import Parameter

    return all(isinstance(getattr(module, name, None), Parameter) for name in ("A_log", "D"))


def freeze_other_parts(model: PreTrainedModel) -> None:
    """Leave what text never reaches out of a full training."""
    name = text_decoder_name(model)
    if not name:
        return
    model.requires_grad_(False)
    for part in (model.get_submodule(name), model.get_output_embeddings()):
        part.requires_grad_(True)


def new_token_arguments(
    model: PreTrainedModel, new_ids: Sequence[int], target: str | Sequence[str] = "all-linear"
) -> dict[str, Any]:
    """Return PEFT's arguments that train the embedding and the output row of new tokens.

    All new tokens start at the mean of the others. Were their output rows frozen, no layer could
    make one of them more likely than the others: the mean of logits is never their maximum.

    Args:
        model: Without an adapter.
        new_ids: Tokens without trained rows.
        target: `lora.target_modules`; a head among them has an adapter for all tokens.

    Returns:
        `trainable_token_indices`, for a head with rows of its own too. PEFT 0.21 leaves out the bias
        of such a head, so one with a bias is trained completely, by `modules_to_save`.
    """
    if not new_ids:
        return {}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows = {_name_of(model, embedding): list(new_ids)}
    if head is None or head.weight is embedding.weight:
        return {"trainable_token_indices": rows}
    name = _name_of(model, head)
    if target != "all-linear" and is_target(name, target):
        return {"trainable_token_indices": rows}
    if getattr(head, "bias", None) is not None:
        return {"trainable_token_indices": rows, "modules_to_save": [name]}
    return {"trainable_token_indices": rows | {name: list(new_ids)}}


def is_target(name: str, target: str | Sequence[str]) -> bool:
    """Return whether a module gets an adapter, as PEFT compares the names."""
    if isinstance(target, str):
        try:
            return re.fullmatch(target, name) is not None
        except re.error:
            return False
    return any(f".{name}".endswith(f".{one}") for one in target)


def has_swapped_weights(model: nn.Module) -> bool:
    """Return whether linear layers keep weights as (inputs, outputs), as those of GPT-2 do."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def check_new_tokens(model: nn.Module, new_ids: Sequence[int]) -> None:
    """Check that the output row of every new token is trained, as built, before the first step.

    Args:
        model: The trainer's, with its adapter.
        new_ids: Tokens without trained rows.

    Raises:
        NothingTrainable: A row is frozen: its token could never be learned.
    """
    import torch

    if not new_ids:
        return
    head, n_trained = model.get_output_embeddings(), 0
    weight = head.weight
    is_trained = isinstance(weight, torch.nn.Parameter) and weight.requires_grad
    if is_trained or hasattr(head, "lora_A"):
        return
    if weight.requires_grad:
        trained = [each for each in model.parameters() if each.requires_grad]
        gradients = torch.autograd.grad(
            weight[list(new_ids)].float().sum(), trained, allow_unused=True
        )
        n_trained = max(int(each.any(-1).sum()) for each in gradients if each is not None)
    if n_trained < len(new_ids):
        raise NothingTrainable(
            "the model could never learn to say its new tokens: their output rows are frozen",
            where=type(model).__name__,
            expected=f"{len(new_ids)} trained rows of the head",
            got=str(n_trained),
            fix="set training.method=full, or take a model whose vocabulary has these tokens",
        )


def keeps_gradients(accelerator: Accelerator) -> bool:
    """Return whether gradients are in the parameters after a backward pass: not under shards."""
    from accelerate.utils import DistributedType as Kind

    return accelerator.distributed_type in (Kind.NO, Kind.MULTI_CPU, Kind.MULTI_GPU)


def check_gradients(model: nn.Module) -> str:
    """Check after the first backward pass that the loss reaches every tensor of the adapter.

    In a full training, weights that the model does not use for text are frozen instead: they had
    stayed as they are anyway.

    Args:
        model: The trainer's.

    Returns:
        A sentence on what was frozen; empty when nothing was.

    Raises:
        GradientIsZero: The loss does not reach a part of the adapter.
    """
    unreached = {
        name: each
        for name, each in model.named_parameters()
        if each.requires_grad and each.grad is None and EXPERTS not in name
    }
    if not unreached:
        return ""
    names = list(unreached)
    shown = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
    if hasattr(model, "peft_config"):
        raise GradientIsZero(
            "the loss does not reach everything that is trained",
            where=f"step 1: {shown}",
            expected="a gradient for every trained tensor",
            got=f"{len(names)} tensors without one",
            fix="list the layers that the model uses for text in training.lora.target_modules",
        )
    for each in unreached.values():
        each.requires_grad_(False)
    return f"{len(names)} tensors that the model does not use for text are not trained: {shown}"


def _name_of(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, each in model.named_modules() if each is module)
