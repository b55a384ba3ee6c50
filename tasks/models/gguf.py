"""Models in a .gguf file: de-quantised on load, their tokenizer set right."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import ModelSourceError

if TYPE_CHECKING:
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
"""Value of `tokenizer.ggml.pre` for vocabularies that part every digit before anything else."""


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
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, name = str(path.parent), path.name
    try:
        with _tamed_conversion():
            facts = read_tokenizer_facts(path)
            tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
            model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    mend_tokenizer(tokenizer, facts)
    tokenizer.model_max_length = model.config.max_position_embeddings
    return _without_quantization(model), tokenizer


def load_gguf_tokenizer(path: Path) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """Load what a .gguf file says of its model, without the weights.

    Args:
        path: The file.

    Returns:
        Tokenizer and configuration, as `load_gguf` would make them.

    Raises:
        ModelSourceError: The file is damaged, or its architecture is unknown.
    """
    from transformers import AutoConfig, AutoTokenizer

    where, name = str(path.parent), path.name
    try:
        with _tamed_conversion():
            facts = read_tokenizer_facts(path)
            tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
            config = AutoConfig.from_pretrained(where, gguf_file=name)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    mend_tokenizer(tokenizer, facts)
    return tokenizer, config


def _unreadable(path: Path, error: Exception) -> ModelSourceError:
    return ModelSourceError(
        "the .gguf file cannot be read",
        where=str(path),
        expected="a whole GGUF file of an architecture that transformers knows",
        got=f"{type(error).__name__}: {error}",
        fix="download it again, or name a model folder in safetensors format",
    )


def read_tokenizer_facts(path: Path) -> dict[str, int | str]:
    """Read which tokens the file says begin, end and pad a text, and the tokenizer's kind.

    Args:
        path: A .gguf file.

    Returns:
        Key (without `tokenizer.ggml.`) to value, for the keys that the file has.
    """
    from gguf import GGUFReader

    fields = GGUFReader(str(path)).fields
    keys = (*TOKEN_FIELDS, "model", "pre")
    found = {key: fields.get(f"tokenizer.ggml.{key}") for key in keys}
    return {key: field.contents() for key, field in found.items() if field is not None}


def mend_tokenizer(tokenizer: PreTrainedTokenizerBase, facts: Mapping[str, int | str]) -> None:
    """Correct what transformers 5.17 gets wrong when it reads a tokenizer from a .gguf file.

    It takes `<|im_start|>` for SmolLM2's end token, forgets the pad token, and decodes byte-level
    text as if it came from SentencePiece. It also leaves out that SmolLM2 was trained on single
    digits, so that white space before a number came out otherwise.

    Args:
        tokenizer: What transformers made; changed in place.
        facts: What the file says.
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


def _without_quantization(model: PreTrainedModel) -> PreTrainedModel:
    """Move the weights to a fresh model, since one read from GGUF refuses to be saved."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.config)
    del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config)
    fresh.load_state_dict(model.state_dict())
    fresh.generation_config = model.generation_config
    return fresh.eval()


@contextmanager
def _tamed_conversion() -> Iterator[None]:
    """Read the file once and let the bar vanish when done; transformers offers neither.

    It parses the file four times, which is half of the loading time of a small model.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as conversion

    former_reader, former_bar = gguf.GGUFReader, conversion.tqdm
    gguf.GGUFReader = cache(former_reader)
    conversion.tqdm = partial(former_bar, leave=False, disable=not sys.stderr.isatty())
    try:
        yield
    finally:
        gguf.GGUFReader, conversion.tqdm = former_reader, former_bar
