"""What two conversations have in common: normalised texts, their hashes, and the last answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Message = dict[str, Any]


def last_answer_index(messages: list[Message]) -> int:
    """Find the last assistant turn.

    Args:
        messages: A conversation.

    Returns:
        Its index; the number of messages when there is none.
    """
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "assistant":
            return index
    return len(messages)


def answer_text(messages: list[Message]) -> str:
    """Take the text of the last assistant turn, tool calls included.

    Args:
        messages: A conversation.

    Returns:
        The text; empty when there is no such turn.
    """
    index = last_answer_index(messages)
    if index == len(messages):
        return ""
    content = messages[index].get("content")
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    calls = messages[index].get("tool_calls")
    return text + json.dumps(calls, sort_keys=True) if calls else text


def normalised(texts: Any) -> Any:
    """Make texts equal that differ only in case, white space or the coding of characters.

    Args:
        texts: polars series of texts.

    Returns:
        Series of the same length: NFKC form (looked at only where a text is not plain ASCII),
        lower case, each run of white space as one blank, none at the ends.
    """
    is_plain = texts.str.len_bytes() == texts.str.len_chars()
    if not is_plain.all():
        places = (~is_plain).arg_true()
        texts = texts.scatter(places, texts.gather(places).str.normalize("NFKC"))
    # Single blanks, the common case, are left alone: four times as fast as replacing each run.
    spaced = texts.str.to_lowercase().str.replace_all(r"\s{2,}|[^\S ]", " ")
    return spaced.str.strip_chars(" ")


def text_hashes(texts: Iterable[str]) -> Any:
    """Shorten texts to 64 bits each, the same in every process, version and year.

    Args:
        texts: Any texts.

    Returns:
        numpy array of XXH3 of their UTF-8 forms; two of four million different texts share one
        with a probability of about 4e-7.
    """
    import numpy
    import xxhash

    digest = xxhash.xxh3_64_intdigest
    return numpy.array([digest(text.encode()) for text in texts], dtype=numpy.uint64)
