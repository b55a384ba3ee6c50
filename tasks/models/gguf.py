"""Load models from a .gguf file: de-quantised, with their tokenizer corrected."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ModelSourceError
from tasks.engine.scratch import scratch_folder

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKEN_FIELDS = {
    "bos_token_id": "bos_token",
    "eos_token_id": "eos_token",
    "unknown_token_id": "unk_token",
    "padding_token_id": "pad_token",
}
"""Field `tokenizer.ggml.<key>` of the file to the tokenizer's attribute."""
BYTE_LEVEL = "gpt2"
"""Value of `tokenizer.ggml.model` for byte-level BPE."""
DIGIT_BY_DIGIT = "smollm"
"""Value of `tokenizer.ggml.pre` for vocabularies that split off every digit first."""


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer from a .gguf file, in 32-bit floats.

    Args:
        path: The file.

    Returns:
        Model and tokenizer, both ready for `save_pretrained`.

    Raises:
        ModelSourceError: The file is damaged, or its architecture is unknown.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with _readable(path), _alone(path) as where:
        tokenizer = _load_tokenizer(path, where)
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # The weights are plain floats by now; with the mark of a quantised model they cannot be saved.
    model.hf_quantizer.remove_quantization_config(model)
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


def load_gguf_tokenizer(path: Path) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """Load tokenizer and configuration as `load_gguf` makes them, without the weights."""
    from transformers import AutoConfig

    with _readable(path), _alone(path) as where:
        return _load_tokenizer(path, where), AutoConfig.from_pretrained(**where)


@contextmanager
def _alone(path: Path) -> Iterator[dict[str, Any]]:
    """Link the file in a folder of its own, for transformers.

    That would read settings, templates, adapters and code next to the file, which are no part of it.
    """
    with scratch_folder() as folder:
        (folder / path.name).symlink_to(path.absolute())
        yield {
            "pretrained_model_name_or_path": str(folder),
            "gguf_file": path.name,
            "trust_remote_code": False,
        }


def _load_tokenizer(path: Path, where: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(**where)
    _fix_tokenizer(tokenizer, read_tokenizer_facts(path))
    return tokenizer


def read_tokenizer_facts(path: Path) -> dict[str, int | str]:
    """Read begin, end and pad token and the tokenizer's kind, for the keys that the file has."""
    from transformers.integrations.gguf import read_gguf_metadata

    fields, _ = read_gguf_metadata(str(path))
    keys = (*TOKEN_FIELDS, "model", "pre")
    found = {key: fields.get(f"tokenizer.ggml.{key}") for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def _fix_tokenizer(tokenizer: PreTrainedTokenizerBase, facts: Mapping[str, int | str]) -> None:
    """Correct what transformers 5.17 gets wrong when it reads a tokenizer from a .gguf file.

    It takes `<|im_start|>` for SmolLM2's end token, forgets the pad token, and decodes byte-level
    text as if it came from SentencePiece. It also ignores that SmolLM2 was trained on single
    digits, so that white space before a number came out otherwise.
    """
    from tokenizers import decoders, pre_tokenizers

    for key, attribute in TOKEN_FIELDS.items():
        if key in facts:
            setattr(tokenizer, attribute, tokenizer.convert_ids_to_tokens(int(facts[key])))
    if facts.get("model") == BYTE_LEVEL:
        tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
        tokenizer.clean_up_tokenization_spaces = False
    if facts.get("model") == BYTE_LEVEL and facts.get("pre") == DIGIT_BY_DIGIT:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Read the file once, remove the bar when done, and wrap errors; transformers does neither.

    transformers 5.17 parses the file three times, and makes the table of tensor names once for
    each module: for SmolLM2-135M, more than half of the processor time.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as conversion

    previous = gguf.GGUFReader, gguf.get_tensor_name_map, conversion.tqdm
    gguf.GGUFReader = cache(_plain_reader(gguf.GGUFReader))
    gguf.get_tensor_name_map = cache(gguf.get_tensor_name_map)
    conversion.tqdm = partial(conversion.tqdm, leave=False, disable=not sys.stderr.isatty())
    try:
        with _one_error(path):
            yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map, conversion.tqdm = previous


def count_gguf_parameters(path: Path) -> int:
    """Count the parameters in a .gguf file without reading its weights."""
    from gguf import GGUFReader

    with _one_error(path):
        return sum(int(tensor.n_elements) for tensor in GGUFReader(path).tensors)


@contextmanager
def _one_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise ModelSourceError(
            "the .gguf file cannot be read",
            where=str(path),
            expected="a complete GGUF file of an architecture that transformers supports",
            got=f"{type(error).__name__}: {error}",
            fix="download it again, or use a model folder in safetensors format",
        ) from error


def _plain_reader(reader: type[GGUFReader]) -> type[GGUFReader]:
    """Let the reader cut its 150,000 strings from a plain array: from a memory map takes 4 times as long.

    The array is a view of the map, so the file is still read as it is needed.
    """
    import numpy as np

    class PlainReader(reader):  # type: ignore[misc, valid-type]
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    return PlainReader
