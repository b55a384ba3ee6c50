"""The flat frame of messages that the message rules look at: one line a message."""

from __future__ import annotations

from typing import Any

from schemas.rows import Conversation

OPENING_ROLES = ("system", "developer")
COLUMNS: dict[str, type] = {
    "file": str,
    "line": int,
    "row": int,
    "turn": int,
    "is_object": bool,
    "role": str,
    "content": str,
    "step": str,
    "opening_turn": int,
    "closing": str,
    "n_assistant_turns": int,
}
"""Null where it does not apply: `content` is the kind of content, `step` the role before and the
role (user, assistant and tool only), `opening_turn` the place of a system or developer message,
`closing` the role of the last message of a conversation that has an assistant turn."""


def flatten_messages(
    number: int, conversation: Conversation, plain_turns: frozenset[int]
) -> list[Any]:
    """Lay one conversation out, one line a message, in the order of `COLUMNS`.

    Args:
        number: Which row of the batch it is.
        conversation: The conversation.
        plain_turns: Turns made of a plain prompt or completion string.

    Returns:
        One tuple a message.
    """
    roles = [_role(message) for message in conversation.messages]
    n_assistant_turns = roles.count("assistant")
    last = len(roles) - 1
    lines = []
    before = "start"
    for turn, (role, message) in enumerate(zip(roles, conversation.messages, strict=True)):
        is_turn = role in ("user", "assistant", "tool")
        lines.append(
            (
                conversation.file,
                conversation.line,
                number,
                turn,
                isinstance(message, dict),
                role,
                _content_kind(message, is_plain=turn in plain_turns),
                f"{before}>{role}" if is_turn else None,
                turn if role in OPENING_ROLES else None,
                role if turn == last and n_assistant_turns else None,
                n_assistant_turns,
            )
        )
        before = str(role) if is_turn else before
    return lines


def _role(message: Any) -> str | None:
    if not isinstance(message, dict):
        return None
    role = message["role"]
    return role if isinstance(role, str) else f"({'missing' if role is None else 'not a text'})"


def _content_kind(message: Any, *, is_plain: bool) -> str | None:
    """Class the content; a call of a tool needs none, a plain string has rules of its own."""
    if not isinstance(message, dict):
        return None
    content = message["content"]
    if (content is None or content == "") and message.get("tool_calls"):
        return "text"
    if content is None:
        return "missing"
    if not isinstance(content, str):
        return f"not a text: {type(content).__name__}"
    return "text" if content.strip() or is_plain else "empty"
