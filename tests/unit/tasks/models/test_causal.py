"""Models that would see the answer, or lack the part that they need, are refused."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from transformers import AutoModelForCausalLM

from schemas.errors import ModelSourceError
from tasks.models.causal import check_causal
from tests.support.families import FAMILIES, make_family

ENCODER = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_families_of_decoders_are_causal(name: str) -> None:
    assert check_causal(make_family(name).eval(), name) is None


def test_a_model_that_cannot_run_where_it_was_loaded_is_not_tried() -> None:
    model = make_family("mamba").eval()

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Expected x.is_cuda() to be true, but got false.")

    model.register_forward_pre_hook(fail)
    assert check_causal(model, "mamba") is None


@pytest.mark.parametrize(
    ("class_name", "settings"),
    [
        ("BertConfig", ENCODER),
        ("RobertaConfig", ENCODER),
        (
            "XLNetConfig",
            {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
        ),
    ],
)
def test_encoders_would_see_the_answer(class_name: str, settings: dict[str, Any]) -> None:
    config = getattr(transformers, class_name)(**settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ModelSourceError, match="not a causal language model") as caught:
        check_causal(model, "mine")
    assert "later tokens" in caught.value.got
    assert caught.value.where == "model.source=mine"
