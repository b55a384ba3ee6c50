"""Texts in columns next to a conversation: repeated in it, or left out of it."""

from __future__ import annotations

import re
from typing import Any

from schemas.rows.message_fields import Note, not_used
from schemas.rows.row import Conversation
from schemas.rows.tool_calls import parse_if_json
from schemas.rows.values import is_nothing
from schemas.texts.damage import is_empty_input

LEAST_PASSAGE = {True: 40, False: 15}
"""Characters of a text that is more than a title or a name, in ASCII or not."""
MOST_WORD_CHARACTERS = 20
MOST_PROBED = 200
"""Characters of a text that are looked for in the conversation."""
LABELS_OF_TEXTS = ("role", "from", "type", "id")


def read_passage(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Report a text to work on that the prompt does not contain."""
    texts = [text for text in _texts_in(row[name]) if len(text) >= LEAST_PASSAGE[text.isascii()]]
    if not texts or any(is_contained(text, conversation) for text in texts):
        return None
    return [not_used(f"{name} is a column; write its text into the prompt")]


def read_repeated(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Drop a field of another format that repeats the conversation; report any other text."""
    value = row[name]
    if not isinstance(value, str | list | dict):
        return None
    if is_nothing(value) or is_empty_input(value) or is_contained(value, conversation):
        return []
    return [not_used(f"{name} is a column, and its text is not in the conversation")]


def is_contained(value: Any, conversation: Conversation) -> bool:
    """Return True if every text in a value is in a message, whatever its white space."""
    said = "\n".join(
        " ".join(text.split())
        for message in conversation.messages
        if isinstance(message, dict)
        for text in (message.get("content"), message.get("reasoning_content"))
        if isinstance(text, str)
    )
    texts = _texts_in(value)
    return bool(texts) and all(_is_in(text[:MOST_PROBED].strip(), said) for text in texts)


def _is_in(text: str, said: str) -> bool:
    """Look for a text; a short one has to be whole words."""
    if not text.isascii() or len(text) > MOST_WORD_CHARACTERS:
        return text in said
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said) is not None


def _texts_in(value: Any) -> list[str]:
    """Collect the texts in a value, with white space collapsed; without roles, types and ids."""
    found, waiting = [], [parse_if_json(value)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and item.strip():
            found.append(" ".join(item.split()))
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item[name] for name in item if name not in LABELS_OF_TEXTS)
    return found
