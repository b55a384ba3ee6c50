"""What a JSON value looks like: a message, a row, a list of rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

QUESTIONS = frozenset(("prompt", "instruction", "question", "query", "input", "q", "problem"))
ANSWERS = frozenset(("completion", "output", "response", "answer", "a", "solution", "chosen"))
SPEAKER_FIELDS = frozenset(("role", "from"))
FEW_ITEMS = 10
"""Looked at to find out whether the items of a list are rows."""


def is_row(value: Any) -> bool:
    """Return whether a value looks like a row: messages by any name, or a question and an answer."""
    if not isinstance(value, dict):
        return False
    if any(is_messages(item) for item in value.values()):
        return True
    names = {name.lower() for name, item in value.items() if _is_text(item)}
    return are_known(names)


def are_known(names: Collection[str]) -> bool:
    return not (QUESTIONS.isdisjoint(names) or ANSWERS.isdisjoint(names))


def is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_message, value))


def is_message(value: Any) -> bool:
    return isinstance(value, dict) and not SPEAKER_FIELDS.isdisjoint(value)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str) or is_message(value)


def is_list_of_rows(value: Any) -> bool:
    """Return whether a value is a list of objects that look like rows."""
    return (
        isinstance(value, list)
        and all(isinstance(item, dict) for item in value)
        and any(map(is_row, value[:FEW_ITEMS]))
    )
