"""The tokens of a model that no message may hold as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """List the tokens that would be read as markers if they stood in a text.

    Args:
        tokenizer: Of the prepared model.

    Returns:
        Special tokens and added ones, in order; added runs of blanks and plain words are texts.
    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    marked = {token for token in added if token.strip() and not token.isalnum()}
    return tuple(sorted(marked | set(tokenizer.all_special_tokens)))
