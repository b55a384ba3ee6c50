"""What was seen where a message breaks a rule on its shape, for the examples of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.rows.values import keys_shown, kind_name, shown
from schemas.rule_ids import RowRule


def describe_message(rule: RowRule, messages: Sequence[Any], turn: int) -> str:
    """Describe a message that breaks a rule: its place from 1, its role, and what was seen.

    Args:
        rule: One of the rules on single messages or on the roles of a conversation.
        messages: Of the conversation, in canonical form.
        turn: Place of the message, from 0.

    Returns:
        Text of one line; keys of the data are cut, other values are shown up to 40 characters.
    """
    message = messages[turn]
    place = f"message {turn + 1}"
    if not isinstance(message, dict):
        return f"{place} is {kind_name(message)}: {shown(message)}"
    role = message.get("role")
    match rule:
        case RowRule.UNKNOWN_ROLE:
            return f"{_text(role)} in {place}" if role is not None else f"{place} has no role"
        case RowRule.NO_ASSISTANT_TURN:
            roles = dict.fromkeys(_role(message) for message in messages)
            return f"no assistant turn; the roles are {', '.join(roles)}"
        case RowRule.LAST_TURN_NOT_ASSISTANT:
            return f"ends with {_text(role)}"
        case RowRule.SYSTEM_NOT_FIRST:
            return f"{place} is a {_text(role)} message"
    return f"{place} ({_text(role)}): {_content_seen(message)}"


def _role(message: Any) -> str:
    return _text(message.get("role")) if isinstance(message, dict) else "(no object)"


def _text(role: Any) -> str:
    return role if isinstance(role, str) else "no role" if role is None else f"role {shown(role)}"


def _content_seen(message: dict[str, Any]) -> str:
    """Describe a content that is no text with letters."""
    content = message.get("content")
    if content is None:
        others = [name for name in message if name not in ("role", "content")]
        return "no content" + (f"; it has {', '.join(others)}"[:80] if others else "")
    if not isinstance(content, list) or not content:
        return f"content is {shown(content)}"
    for number, part in enumerate(content, 1):
        if seen := _part_seen(part):
            return f"part {number} of the content is {seen}"
    return "content is a list"


def _part_seen(part: Any) -> str:
    """Describe a part that is not a text part; empty if it is one."""
    if isinstance(part, str):
        return ""
    if not isinstance(part, dict):
        return shown(part)
    kind = part.get("type")
    if isinstance(part.get("text"), str) and kind == "text":
        return ""
    if kind is None:
        return f"without a type; its keys are {keys_shown(part)}"
    if kind == "text":
        what = "missing" if "text" not in part else kind_name(part["text"])
        return f"a text part with the keys {keys_shown(part)}; text is {what}"
    return f"of type {kind[:40] if isinstance(kind, str) else shown(kind)}"
