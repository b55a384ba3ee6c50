"""Add the product of an adapter to the layer's result in place.

PEFT 0.21 computes `result + B(A(x)) * scaling`: a product, a scaled copy and a sum as wide as the
result, and another scaled copy in the backward pass, which is about 8 % of a step on a CPU.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from schemas.config.training import TrainingConfig
from tasks.training.plan.choices import Choices, Precision

if TYPE_CHECKING:
    from torch import Tensor, nn


def add_in_place(model: nn.Module, training: TrainingConfig, choices: Choices) -> int:
    """Replace the forward pass of plain LoRA layers; the sums are those of PEFT.

    Args:
        model: With its adapter, or without one.
        training: In one process: sharded weights are complete in their module's own forward only.
        choices: On a CPU in fp32: autocast leaves operations in place alone.

    Returns:
        How many layers add in place: none with DoRA, quantised weights or dropout.
    """
    is_alone = training.processes == 1 and training.accelerate_config is None
    is_plain = choices.device == "cpu" and choices.precision is Precision.FP32
    if not (training.has_adapter and is_alone and is_plain):
        return 0
    from peft.tuners.lora.layer import Linear

    layers = [each for each in model.modules() if type(each) is Linear and _is_plain(each)]
    for each in layers:
        each.forward = types.MethodType(_forward, each)
    return len(layers)


def _is_plain(layer: Any) -> bool:
    from torch import nn

    names = layer.active_adapters
    return (
        len(names) == 1
        and not layer.lora_variant
        and type(layer.base_layer) is nn.Linear
        and isinstance(layer.lora_dropout[names[0]], nn.Identity)
        and layer.lora_B[names[0]].bias is None
    )


def _forward(self: Any, x: Tensor, *args: Any, **options: Any) -> Tensor:
    if self.disable_adapters or self.merged or args or options:
        return type(self).forward(self, x, *args, **options)
    name = self.active_adapters[0]
    rows = x.flatten(0, -2)  # a result of two dimensions is no view, so it can be added to
    narrow = self.lora_A[name](rows)
    wide = self.base_layer(rows)
    wide.addmm_(narrow, self.lora_B[name].weight.t(), alpha=self.scaling[name])
    return wide.view(*x.shape[:-1], -1)
