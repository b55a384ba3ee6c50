from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.models.shape import read_model_shape, read_position_limit, stored_dtypes
from tests.support.toy import make_toy_model


def test_sizes_are_read_from_a_prepared_folder(tmp_path: Path) -> None:
    found = read_model_shape(make_toy_model(tmp_path / "model"))
    assert found is not None
    assert (found.n_layers, found.hidden_size, found.head_size) == (2, 32, 8)
    assert (found.query_size, found.key_value_size) == (32, 16)
    # Embeddings, and for each layer q, k, v, o, gate, up, down and two norms; the last norm.
    layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64 + 2 * 32
    assert found.n_parameters == found.vocabulary_size * 32 + 2 * layer + 32


def test_a_models_text_part_is_looked_at(tmp_path: Path) -> None:
    text = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "vocab_size": 9}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}), encoding="utf-8")
    found = read_model_shape(tmp_path)
    assert found is not None
    assert (found.head_size, found.n_key_value_heads, found.intermediate_size) == (4, 2, 32)


def test_an_architecture_of_other_names_has_no_known_sizes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"n_embd": 8}', encoding="utf-8")
    assert read_model_shape(tmp_path) is None


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_theta": 1e4}}, 4096),
        ({"text_config": {"max_position_embeddings": 512}, "vision_config": {}}, 512),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 8192,
                "rope_parameters": {
                    "full_attention": {"factor": 8.0},
                    "sliding_attention": {"rope_theta": 1e4},
                },
            },
            65536,
        ),
        ({"max_position_embeddings": 2048, "alibi": True}, None),
        ({"hidden_size": 8}, None),
    ],
)
def test_positions_are_read_with_their_scaling(
    tmp_path: Path, config: dict[str, Any], limit: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_position_limit(tmp_path) == limit


def test_number_formats_are_read_from_the_weights(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {"big": torch.zeros(9).bfloat16(), "small": torch.zeros(2), "n": torch.tensor([1])}
    save_file(tensors, tmp_path / "model.safetensors")
    assert stored_dtypes(tmp_path) == ("bfloat16", {"big": "bfloat16", "small": "float32"})
