"""Repairs that lose nothing, for `sft-flow check --fix`: byte order marks, CRLF, role aliases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from schemas.rows._conversions import SHAREGPT_ROLES
from schemas.rows.row import ROLES


class Repair(StrEnum):
    """What was mended; counted once a text or role."""

    BYTE_ORDER_MARK = "byte_order_mark"
    CRLF = "crlf"
    ROLE_ALIAS = "role_alias"


ROLE_ALIASES = {
    **{role: role for role in ROLES},
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""Roles by the names other formats give them, in small letters: OpenAI's old `function`, Gemini's
`model`, Llama's `ipython`, ShareGPT's `human`, `gpt` and `observation`."""
TURN_NAMES = {
    **{name: name for name in SHAREGPT_ROLES},
    "bot": "gpt",
    "chatbot": "gpt",
    "ai": "gpt",
}
"""Names in ShareGPT turns; `function` is left alone, as it means a call to some and a result to others."""
ROLE_FIELDS = frozenset(("role", "from"))
CONTENT_FIELDS = frozenset(("content", "value"))
BYTE_ORDER_MARK = "\ufeff"

Mend = Callable[[Any, Counter[Repair]], Any]


def repair_row(row: Any) -> tuple[Any, Counter[Repair]]:
    """Mend what can be mended without loss in the texts and roles of a row.

    Args:
        row: As read, columns already mapped; it is not changed.

    Returns:
        The mended row, the very same object if nothing was mended, and how often each repair was
        made. Columns that are not part of the conversation stay as they are.
    """
    made: Counter[Repair] = Counter()
    if not isinstance(row, dict):
        return row, made

    changes: dict[str, Any] = {}
    for name, value in row.items():
        mend = MENDS.get(name)
        if mend is not None and (mended := mend(value, made)) is not value:
            changes[name] = mended
    return ({**row, **changes}, made) if changes else (row, made)


def _mend_list(value: list[Any], mend: Mend, made: Counter[Repair]) -> list[Any]:
    """Mend the items of a list; the same list if none changes."""
    mended = [mend(item, made) for item in value]
    is_same = all(new is old for new, old in zip(mended, value, strict=True))
    return value if is_same else mended


def _mend_text(value: Any, made: Counter[Repair]) -> Any:
    if type(value) is not str:
        return value
    if BYTE_ORDER_MARK in value:
        value = value.replace(BYTE_ORDER_MARK, "")
        made[Repair.BYTE_ORDER_MARK] += 1
    if "\r\n" in value:
        value = value.replace("\r\n", "\n")
        made[Repair.CRLF] += 1
    return value


def _mend_part(part: Any, made: Counter[Repair]) -> Any:
    """Mend one of a message's text parts; a part of another kind stays."""
    if type(part) is not dict or part.get("type") != "text":
        return _mend_text(part, made)
    text = _mend_text(part.get("text"), made)
    return part if text is part.get("text") else {**part, "text": text}


def _mend_content(value: Any, made: Counter[Repair]) -> Any:
    return _mend_list(value, _mend_part, made) if type(value) is list else _mend_text(value, made)


def _mend_pair(pair: Any, made: Counter[Repair]) -> Any:
    return _mend_list(pair, _mend_text, made) if type(pair) is list else _mend_text(pair, made)


def _mend_history(value: Any, made: Counter[Repair]) -> Any:
    return _mend_list(value, _mend_pair, made) if type(value) is list else value


def _mend_messages(value: Any, made: Counter[Repair]) -> Any:
    """Mend a list of messages, or the text that stands in its place."""
    if type(value) is list:
        return _mend_list(value, _mend_message, made)
    return _mend_text(value, made)


def _mend_turns(value: Any, made: Counter[Repair]) -> Any:
    return _mend_list(value, _mend_turn, made) if type(value) is list else value


def _mend_message(message: Any, made: Counter[Repair]) -> Any:
    return _mend_said(message, made, ROLE_ALIASES)


def _mend_turn(turn: Any, made: Counter[Repair]) -> Any:
    return _mend_said(turn, made, TURN_NAMES)


def _mend_said(message: Any, made: Counter[Repair], names: dict[str, str]) -> Any:
    """Mend role and content of a message, or from and value of a turn."""
    if type(message) is not dict:
        return message
    changes: dict[str, Any] = {}
    for name, value in message.items():
        if name in ROLE_FIELDS:
            mended = _mend_role(value, made, names)
        elif name in CONTENT_FIELDS:
            mended = _mend_content(value, made)
        else:
            continue
        if mended is not value:
            changes[name] = mended
    return {**message, **changes} if changes else message


def _mend_role(value: Any, made: Counter[Repair], names: dict[str, str]) -> Any:
    if type(value) is not str or names.get(value) == value:
        return value
    cleaned = value.replace(BYTE_ORDER_MARK, "").strip().lower()
    if cleaned not in names:
        return value
    made[Repair.ROLE_ALIAS] += 1
    return names[cleaned]


MENDS: dict[str, Mend] = {
    "messages": _mend_messages,
    "prompt": _mend_messages,
    "completion": _mend_messages,
    "conversations": _mend_turns,
    "instruction": _mend_text,
    "input": _mend_text,
    "output": _mend_text,
    "system": _mend_text,
    "history": _mend_history,
}
"""How each column is mended; columns that are not named here stay as they are."""
