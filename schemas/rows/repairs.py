"""Loss-free repairs for `sft-flow check --fix`: byte order marks, CRLF, role aliases."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from schemas.rows._conversions import SHAREGPT_ROLES
from schemas.rows.row import ROLES


class Repair(StrEnum):
    """What was repaired; counted once per text or role."""

    BYTE_ORDER_MARK = "byte_order_mark"
    CRLF = "crlf"
    ROLE_ALIAS = "role_alias"


ROLE_ALIASES = {
    **{role: role for role in ROLES},
    "human": "user",
    **dict.fromkeys(("gpt", "chatgpt", "bot", "chatbot", "model", "ai"), "assistant"),
    **dict.fromkeys(("function", "function_response", "observation", "ipython"), "tool"),
}
"""Role names of other formats, in small letters: OpenAI's old `function`, Gemini's `model`, Llama's
`ipython`, ShareGPT's `human`, `gpt` and `observation`."""
TURN_NAMES = {name: name for name in SHAREGPT_ROLES} | dict.fromkeys(
    ("bot", "chatbot", "ai"), "gpt"
)
"""Names in ShareGPT turns; `function` stays, as it is a call in some datasets and a result in others."""
ROLE_FIELDS = frozenset(("role", "from"))
CONTENT_FIELDS = frozenset(("content", "value"))
BYTE_ORDER_MARK = "\ufeff"

Repairer = Callable[[Any, Counter[Repair]], Any]
"""Returns the repaired value, or the value itself if nothing changes, and counts its repairs."""


def repair_row(row: Any) -> tuple[Any, Counter[Repair]]:
    """Repair the texts and roles of a row.

    Args:
        row: As read, columns already mapped; it is not changed.

    Returns:
        The repaired row, the same object if nothing changed, and the number of each repair.
        Columns that are not part of the conversation stay unchanged.
    """
    made: Counter[Repair] = Counter()
    if not isinstance(row, dict):
        return row, made
    changes: dict[str, Any] = {}
    for name, value in row.items():
        repair = REPAIRERS.get(name)
        if repair is not None and (repaired := repair(value, made)) is not value:
            changes[name] = repaired
    return ({**row, **changes}, made) if changes else (row, made)


def _keep(value: Any, _: Counter[Repair]) -> Any:
    return value


def _repair_text(value: Any, made: Counter[Repair]) -> Any:
    if type(value) is not str:
        return value
    if BYTE_ORDER_MARK in value:
        value = value.replace(BYTE_ORDER_MARK, "")
        made[Repair.BYTE_ORDER_MARK] += 1
    if "\r\n" in value:
        value = value.replace("\r\n", "\n")
        made[Repair.CRLF] += 1
    return value


def _each(repair_item: Repairer, repair_other: Repairer = _repair_text) -> Repairer:
    """Apply a repair to the items of a list, or another to a value that is not a list."""

    def repair(value: Any, made: Counter[Repair]) -> Any:
        if type(value) is not list:
            return repair_other(value, made)
        repaired = [repair_item(item, made) for item in value]
        is_same = all(new is old for new, old in zip(repaired, value, strict=True))
        return value if is_same else repaired

    return repair


def _repair_part(part: Any, made: Counter[Repair]) -> Any:
    """Repair one text part of a message; a part of another kind stays."""
    if type(part) is not dict or part.get("type") != "text":
        return _repair_text(part, made)
    text = _repair_text(part.get("text"), made)
    return part if text is part.get("text") else {**part, "text": text}


_repair_content = _each(_repair_part)


def _repair_message(message: Any, made: Counter[Repair], names: dict[str, str]) -> Any:
    """Repair role and content of a message, or from and value of a turn."""
    if type(message) is not dict:
        return message
    changes: dict[str, Any] = {}
    for name, value in message.items():
        if name in ROLE_FIELDS:
            repaired = _repair_role(value, made, names)
        elif name in CONTENT_FIELDS:
            repaired = _repair_content(value, made)
        else:
            continue
        if repaired is not value:
            changes[name] = repaired
    return {**message, **changes} if changes else message


def _repair_role(value: Any, made: Counter[Repair], names: dict[str, str]) -> Any:
    if type(value) is not str or names.get(value) == value:
        return value
    cleaned = value.replace(BYTE_ORDER_MARK, "").strip().lower()
    if cleaned not in names:
        return value
    made[Repair.ROLE_ALIAS] += 1
    return names[cleaned]


_repair_messages = _each(functools.partial(_repair_message, names=ROLE_ALIASES))
REPAIRERS: dict[str, Repairer] = {
    "messages": _repair_messages,
    "prompt": _repair_messages,
    "completion": _repair_messages,
    "conversations": _each(functools.partial(_repair_message, names=TURN_NAMES), _keep),
    "instruction": _repair_text,
    "input": _repair_text,
    "output": _repair_text,
    "system": _repair_text,
    "history": _each(_each(_repair_text), _keep),
}
"""How to repair each column; other columns stay unchanged."""
