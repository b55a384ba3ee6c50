"""Earlier turns in a column: lists of pairs, of messages or of objects with a question and an answer."""

from __future__ import annotations

from typing import Any

from schemas.rows._conversions import canonical_message
from schemas.rows.message_fields import Note
from schemas.rows.values import bare_name, is_blank

HISTORIES = frozenset(
    (
        *("history", "chathistory", "conversationhistory", "dialoghistory", "dialoguehistory"),
        *("messagehistory", "previousturns", "previousmessages", "pastturns", "pastmessages"),
        *("priorturns", "priormessages", "earlierturns", "earliermessages"),
    )
)
"""Names of columns, without their spelling."""
PAIRS = (
    *(("question", "answer"), ("q", "a"), ("query", "response"), ("query", "answer")),
    *(("user", "assistant"), ("human", "assistant"), ("human", "gpt"), ("human", "ai")),
    *(("user", "bot"), ("human", "bot"), ("user", "model"), ("user", "system")),
    *(("prompt", "response"), ("prompt", "completion"), ("input", "output")),
    *(("instruction", "output"), ("instruction", "response")),
)
"""Fields of an object that is a question with its answer, without their spelling."""


def are_turns(history: Any) -> bool:
    """Return True for a list of `[question, answer]`, of messages, or of objects with both."""
    return isinstance(history, list) and all(
        (isinstance(item, list) and len(item) == 2 and all(isinstance(t, str) for t in item))
        or (isinstance(item, dict) and ("role" in item or "from" in item or _pair(item)))
        for item in history
    )


def from_history(history: Any, notes: list[Note]) -> list[Any]:
    """Convert earlier turns: what `are_turns` accepts, or a text of the user.

    Items of another kind stay, so that the row rules find them.
    """
    if not isinstance(history, list):
        opening = {"role": "user", "content": history}
        return [] if is_blank(history) else [canonical_message(opening, notes)]
    messages: list[Any] = []
    for item in history:
        pair = _pair(item) if isinstance(item, dict) else item
        if isinstance(pair, list):
            roles = ("user", "assistant") * ((len(pair) + 1) // 2)
            messages.extend(
                canonical_message({"role": role, "content": text}, notes)
                for role, text in zip(roles, pair, strict=False)
            )
        else:
            messages.append(canonical_message(item, notes))
    return messages


def _pair(item: dict[str, Any]) -> list[Any] | None:
    """Return the question and the answer of an object that has both."""
    names = {bare_name(name): name for name in item}
    for pair in PAIRS:
        found = [item[names[part]] for part in pair if part in names]
        if len(found) == 2 and all(isinstance(text, str) for text in found):
            return found
    return None
