"""Read the sizes of a prepared model from its files without loading it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from schemas.base import Record
from schemas.errors import ModelSourceError

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Number formats that a model is saved in, by their names in safetensors files."""
LAYER_FIELDS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
POSITION_FIELDS = ("max_position_embeddings", "n_positions")


class Tensor(NamedTuple):
    """Sizes and number format of a tensor in a safetensors file."""

    shape: list[int]
    dtype: str


class ModelShape(Record):
    """Sizes that determine the memory of a training."""

    n_parameters: int
    n_layers: int
    hidden_size: int
    intermediate_size: int
    n_attention_heads: int
    n_key_value_heads: int
    head_size: int
    vocabulary_size: int

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.n_attention_heads * self.head_size

    @property
    def key_value_size(self) -> int:
        """Width of all key heads together; the same for values."""
        return self.n_key_value_heads * self.head_size

    @property
    def linear_sizes(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's seven linear maps: q, k, v, o, gate, up, down."""
        hidden, inner = self.hidden_size, self.intermediate_size
        query, key_value = self.query_size, self.key_value_size
        attention = ((hidden, query), (hidden, key_value), (hidden, key_value), (query, hidden))
        return (*attention, (hidden, inner), (hidden, inner), (inner, hidden))


def read_model_shape(folder: Path) -> ModelShape | None:
    """Read a model's sizes from `config.json` and the headers of its weight files.

    None for an architecture with other names for them.
    """
    config = _text_settings(folder)
    try:
        hidden, n_heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        n_layers, vocabulary = int(config["num_hidden_layers"]), int(config["vocab_size"])
        inner = int(config.get("intermediate_size") or 4 * hidden)
    except (KeyError, TypeError, ValueError):
        return None
    return ModelShape(
        n_parameters=count_parameters(folder),
        n_layers=n_layers,
        hidden_size=hidden,
        intermediate_size=inner,
        n_attention_heads=n_heads,
        n_key_value_heads=int(config.get("num_key_value_heads") or n_heads),
        head_size=int(config.get("head_dim") or hidden // n_heads),
        vocabulary_size=vocabulary,
    )


def count_parameters(folder: Path) -> int:
    """Count the parameters in a folder's safetensors files; tied ones are stored once."""
    return sum(
        math.prod(tensor.shape)
        for path in sorted(folder.glob("*.safetensors"))
        for tensor in _header(path).values()
    )


def stored_dtypes(folder: Path) -> tuple[str, dict[str, str]]:
    """Read the number formats in a folder's safetensors files, by their names in torch.

    Args:
        folder: Of the model.

    Returns:
        The format of most weights, and that of each tensor by its name.
    """
    formats: dict[str, str] = {}
    sizes = dict.fromkeys(DTYPES.values(), 0)
    for path in folder.glob("*.safetensors"):
        for name, tensor in _header(path).items():
            if dtype := DTYPES.get(tensor.dtype):
                formats[name] = dtype
                sizes[dtype] += math.prod(tensor.shape)
    return max(sizes, key=lambda dtype: sizes[dtype]), formats


def read_position_limit(folder: Path) -> int | None:
    """Read how many tokens a model has positions for from `config.json`; None for any number."""
    config = _text_settings(folder)
    limits = [config[name] for name in POSITION_FIELDS if isinstance(config.get(name), int)]
    if not limits or config.get("alibi"):
        return None
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    for part in (scaling, *scaling.values()):  # one for each kind of layer, in some models
        if isinstance(part, dict) and part.get("factor"):
            original = part.get("original_max_position_embeddings") or max(limits)
            limits.append(int(original * part["factor"]))
    return max(limits)


def check_weights(folder: Path) -> None:
    """Check that a folder's safetensors files are complete, and have a tensor for each layer.

    Weights are not read. Layers without weights would fill the memory while the model is built.

    Args:
        folder: Of the model.

    Raises:
        ModelSourceError: They are not.
    """
    n_tensors = sum(len(_header(path)) for path in folder.glob("*.safetensors"))
    config = _text_settings(folder)
    layers = [config[name] for name in LAYER_FIELDS if isinstance(config.get(name), int)]
    if n_tensors and max(layers, default=0) > n_tensors:
        raise ModelSourceError(
            "the settings of the model name more layers than there are weights",
            where=str(folder / "config.json"),
            expected=f"at most {n_tensors:,} layers, one for each tensor",
            got=f"{max(layers):,}",
            fix="take config.json and the weights from one save_pretrained",
        )


def _text_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of the language model, which may be a part of a larger one."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def _header(path: Path) -> dict[str, Tensor]:
    """Read shape and number format of each tensor in a safetensors file, whose length they must fit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {name: Tensor(one.get_shape(), one.get_dtype()) for name, one in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ModelSourceError(
            f"{path.name} is damaged or incomplete",
            where=str(path),
            expected="a complete safetensors file",
            got=f"{str(error).splitlines()[0]}, {path.stat().st_size:,} bytes",
            fix="download it again",
        ) from error
