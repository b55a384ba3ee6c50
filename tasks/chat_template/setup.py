"""Set up a chat template on a model: template, tokens, embeddings, generation settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydantic import JsonValue

from schemas.config.run import TemplateConfig, TemplateKind
from schemas.errors import ModelSourceError, TemplateError
from tasks.chat_template._settings import split_settings, write_settings
from tasks.chat_template.contract import FIX, check_contract, check_pad
from tasks.chat_template.sources import (
    VOCABULARY_MULTIPLE,
    clone_template,
    own_template,
    read_user_template,
)
from tasks.chat_template.trial import check_ends
from tasks.chat_template.variants import (
    candidate_variants,
    chatml_template,
    has_markers,
    without_markers,
)

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
CHATML_STOP = CHATML_TOKENS[1]
PAD_CANDIDATES = (
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<unk>",
)
"""Tokens that many vocabularies have and no conversation contains, the plainest first."""
NEW_PAD = "<|pad|>"
IGNORED_SETTING = re.compile(r"^- `(\w+)`: ", re.MULTILINE)
"""A line of the error in which transformers 5.17 lists settings that generation would ignore."""


class TemplateOrigin(StrEnum):
    """Where the inference template came from."""

    MODEL = "model"
    CHATML = "chatml"
    FILE = "file"
    CLONE = "clone"


@dataclass(frozen=True)
class PreparedTemplate:
    """What was set up on a model and its tokenizer."""

    training_template: str
    origin: TemplateOrigin
    added_token_ids: tuple[int, ...]
    stop_token: str
    """Ends an assistant turn; the tokenizer's EOS token too, unless the template writes that."""

    @property
    def n_added_tokens(self) -> int:
        """Number of added tokens."""
        return len(self.added_token_ids)


def set_up_template(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TemplateConfig
) -> PreparedTemplate:
    """Set a chat template, with tokens, embeddings and generation settings to match, in place."""
    known = dict(tokenizer.get_vocab())
    previous_eos = tokenizer.eos_token
    origin, training = set_template(model, tokenizer, config)
    if origin != TemplateOrigin.CHATML:
        check_ends(str(tokenizer.chat_template), tokenizer.special_tokens_map)
    training, stop_token = choose_variant(tokenizer, training, config.kwargs)
    if "eos_token" not in str(tokenizer.chat_template):
        tokenizer.eos_token = stop_token  # elsewhere the text that was checked would change
    previous_stops = stop_ids(model) if origin == TemplateOrigin.MODEL else []
    stop_id = int(tokenizer.convert_tokens_to_ids(stop_token))
    found = (stop_id, *previous_stops, tokenizer.eos_token_id)  # a template may read an unset one
    stops = list(dict.fromkeys(int(token) for token in found if token is not None))
    set_pad_token(tokenizer, previous_eos, stops)
    check_pad(tokenizer, stop_token)
    new_ids = sorted(token for name, token in tokenizer.get_vocab().items() if name not in known)
    resize_embeddings(model, tokenizer, [] if origin == TemplateOrigin.CLONE else new_ids)
    set_generation(model, tokenizer, stops)
    return PreparedTemplate(training, origin, tuple(new_ids), stop_token)


def set_template(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TemplateConfig
) -> tuple[TemplateOrigin, str | None]:
    """Set the inference template; return its origin, and the training template of a user's file."""
    if config.kind == TemplateKind.CLONE:
        clone_template(model, tokenizer, str(config.clone_from))
        return TemplateOrigin.CLONE, None
    if config.kind == TemplateKind.FILE:
        text = read_user_template(str(config.path))
        if all(token in text for token in CHATML_TOKENS):
            add_chatml_tokens(tokenizer)
        tokenizer.chat_template = without_markers(text)
        return TemplateOrigin.FILE, text if has_markers(text) else None
    if config.kind == TemplateKind.AUTO and tokenizer.chat_template:
        tokenizer.chat_template = own_template(tokenizer)
        return TemplateOrigin.MODEL, None
    add_chatml_tokens(tokenizer)
    tokenizer.chat_template = chatml_template(tokenizer)
    return TemplateOrigin.CHATML, None


def add_chatml_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the ChatML tokens that the vocabulary lacks, and make the second one end a text."""
    from tokenizers import AddedToken

    tokens = [AddedToken(token, special=True, normalized=False) for token in CHATML_TOKENS]
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.eos_token = CHATML_STOP


def choose_variant(
    tokenizer: PreTrainedTokenizerBase,
    training: str | None,
    kwargs: Mapping[str, JsonValue] = MappingProxyType({}),
) -> tuple[str, str]:
    """Write the settings into the template, and find a training variant that keeps the contract.

    Args:
        tokenizer: Tokenizer with its inference template set.
        training: The user's template, which is then the only candidate; None tries all known ways.
        kwargs: Values of the template's variables; without any, those that the template has stay.

    Returns:
        The training template, and the token that ends an assistant turn.

    Raises:
        TemplateError: The user's template breaks the contract, or no variant keeps it.
    """
    own_settings, inference = split_settings(str(tokenizer.chat_template))
    settings = write_settings(kwargs, inference) or own_settings
    tokenizer.chat_template = inference  # variants are known by the text without settings
    if training is not None:
        candidates = [("the template itself", split_settings(training)[1])]
    else:
        candidates = list(candidate_variants(tokenizer))
    tokenizer.chat_template = settings + inference
    breaches: list[str] = []
    for name, candidate in candidates:
        try:
            return settings + candidate, check_contract(tokenizer, settings + candidate)
        except TemplateError as error:
            if training is not None:
                raise
            breach = error
            breaches.append(f"{name}: {error.what}")
    raise TemplateError(
        "no training variant of the chat template keeps the contract",
        where=breach.where,
        expected="a variant with generation markers and the same text",
        got="; ".join(breaches),
        fix=FIX,
    ) from breach


def stop_ids(model: PreTrainedModel) -> list[int]:
    """List the tokens at which generation stops so far, in the configuration's order."""
    present = model.generation_config.eos_token_id
    return present if isinstance(present, list) else [present] if present is not None else []


def set_pad_token(
    tokenizer: PreTrainedTokenizerBase, previous_eos: str | None, stops: list[int]
) -> None:
    """Choose a pad token that no answer ends with; add one if the vocabulary has none.

    No conversation contains the end token from before the template was set any more.
    """
    vocabulary = tokenizer.get_vocab()
    taken = {*stops, tokenizer.bos_token_id}
    for token in (tokenizer.pad_token, previous_eos, *PAD_CANDIDATES):
        if token in vocabulary and vocabulary[token] not in taken:
            tokenizer.pad_token = token
            return
    tokenizer.add_special_tokens({"pad_token": NEW_PAD})


def resize_embeddings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new_ids: list[int]
) -> None:
    """Make room for new tokens and start them at the mean of the existing embeddings.

    The size stays when the vocabulary fits; `new_ids` have no embedding of their own yet.

    Source:
        transformers 5.17, resize_token_embeddings(mean_resizing=True), after Hewitt 2021,
        "Initializing New Word Embeddings for Pretrained Language Models".
    """
    import torch

    n_rows = int(model.get_input_embeddings().weight.shape[0])
    n_needed = max(tokenizer.get_vocab().values()) + 1
    spare = [token for token in new_ids if token < n_rows]
    if spare:
        with torch.no_grad():
            for table in (model.get_input_embeddings(), model.get_output_embeddings()):
                # Rows beyond the old vocabulary were never trained: the mean excludes them.
                table.weight[spare] = table.weight[: min(spare)].mean(dim=0)
    if n_needed > n_rows:
        model.resize_token_embeddings(n_needed, pad_to_multiple_of=VOCABULARY_MULTIPLE)


def set_generation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stops: list[int]
) -> None:
    """Stop generation at the end of a turn, and set the same tokens in all settings."""
    for settings in (model.config.get_text_config(), model.generation_config):
        settings.bos_token_id = tokenizer.bos_token_id
        settings.pad_token_id = tokenizer.pad_token_id
        settings.eos_token_id = stops[0]
    model.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
    settle_generation(model.generation_config)


def settle_generation(settings: GenerationConfig) -> None:
    """Resolve contradictions, with which transformers 5 reads settings but refuses to save them.

    A temperature or `top_p` means sampling, as in the corrected files of Llama 2. Other settings
    that generation ignores are removed. Evaluations decode greedily whatever the settings say.

    Args:
        settings: Those of the model; changed in place.

    Raises:
        ModelSourceError: They cannot be used at all.
    """
    if "do_sample" in _contradictions(settings):
        settings.do_sample = True
    for name in IGNORED_SETTING.findall(_contradictions(settings)):
        setattr(settings, name, None)
    if fault := _contradictions(settings):
        raise ModelSourceError(
            "the model's settings for generation contradict each other",
            where="generation_config.json",
            expected="settings that transformers can save",
            got=" ".join(fault.split()),
            fix="correct the file in the model's folder, or remove it",
        )


def _contradictions(settings: GenerationConfig) -> str:
    try:
        settings.validate(strict=True)
    except ValueError as error:
        return str(error)
    return ""
