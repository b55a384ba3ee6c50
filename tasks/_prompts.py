"""What two conversations have in common: the prompt, the answer and the whole, as comparable keys."""

from __future__ import annotations

import hashlib
import json
import unicodedata
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


def normalise_text(text: str) -> str:
    """Make texts equal that differ only in case, white space or the coding of characters.

    Args:
        text: Any text.

    Returns:
        It in NFKC form, case folded, each run of white space as one blank, none at the ends.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _content_text(message: Message) -> str:
    """Render what a message says, tool calls included."""
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    calls = message.get("tool_calls")
    return text + json.dumps(calls, sort_keys=True) if calls else text


def normalised_prompt(messages: list[Message]) -> str:
    """Write the prompt, all messages before the last assistant turn, in normalised form.

    Args:
        messages: A conversation.

    Returns:
        One line a message: role and normalised content.
    """
    prompt = messages[: last_answer_index(messages)]
    return "\n".join(f"{m.get('role')}: {normalise_text(_content_text(m))}" for m in prompt)


def answer_text(messages: list[Message]) -> str:
    """Take the text of the last assistant turn.

    Args:
        messages: A conversation.

    Returns:
        The text; empty when there is no such turn.
    """
    index = last_answer_index(messages)
    return _content_text(messages[index]) if index < len(messages) else ""


def text_key(text: str) -> bytes:
    """Shorten a text to a key that is equal only for equal texts.

    Args:
        text: Any text.

    Returns:
        The first 16 bytes of its sha256.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def conversation_key(messages: list[Message]) -> bytes:
    """Name a conversation by its exact content.

    Args:
        messages: A conversation.

    Returns:
        A key that two conversations share only if every message is the same.
    """
    return text_key(json.dumps(messages, sort_keys=True, ensure_ascii=False))
