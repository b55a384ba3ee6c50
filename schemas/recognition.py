"""What a row is: its format, the conversation it holds, and what its shape breaks.

The rules named here are defined in `schemas/conversation.py`; those on single messages are
checked there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from schemas.rows import Conversation, RowFormat, SourceRow
from schemas.rules import RowRule

FIELDS = ("messages", "prompt", "completion", "tools")


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a row breaks, and what was seen."""

    rule: RowRule
    detail: str


def recognise(
    source: SourceRow,
) -> tuple[Conversation | None, frozenset[int], list[Violation]]:
    """Read a row as a conversation and note what its shape breaks.

    Args:
        source: The row as read, column names already mapped.

    Returns:
        The conversation if there is one, the turns made of a plain prompt or completion string
        (prompt_empty and completion_empty judge those), and the violations.
    """
    nothing: frozenset[int] = frozenset()
    if source.unparseable:
        return None, nothing, [Violation(RowRule.UNPARSEABLE_LINE, source.unparseable)]
    row = source.row
    if not isinstance(row, dict):
        return None, nothing, [Violation(RowRule.NOT_AN_OBJECT, _kind_name(row))]
    tools = _as_list(row.get("tools")) or None
    problem = _shape_problem(row, tools)
    if problem:
        return None, nothing, [problem]
    if row.get("messages") is not None:
        messages = [_canonical(message) for message in _as_list(row["messages"])]
        row_format, n_prompt_messages, plain_turns, violations = (
            RowFormat.MESSAGES,
            None,
            nothing,
            [],
        )
        if row.get("prompt") is not None or row.get("completion") is not None:
            violations.append(Violation(RowRule.MIXED_FORMAT, "has messages and prompt/completion"))
    else:
        messages, n_prompt_messages, plain_turns, violations = _join_parts(row)
        row_format = RowFormat.PROMPT_COMPLETION
    columns = {
        name: value
        for name, value in row.items()
        if name not in FIELDS and isinstance(value, (str, int, float, bool))
    }
    conversation = Conversation(
        source.file, source.line, row_format, messages, n_prompt_messages, tools, columns
    )
    return conversation, plain_turns, violations


def _shape_problem(row: dict[str, Any], tools: Any) -> Violation | None:
    """Say why no conversation can be made of an object, if so."""
    if tools is not None and not isinstance(tools, list):
        return Violation(RowRule.UNKNOWN_FORMAT, f"tools is {_kind_name(tools)}, not a list")
    if row.get("messages") is None:
        if "prompt" in row and "completion" in row:
            return None
        names = ", ".join(list(row)[:8]) or "none"
        return Violation(RowRule.UNKNOWN_FORMAT, f"columns: {names}")
    messages = _as_list(row["messages"])
    if not isinstance(messages, list):
        return Violation(RowRule.UNKNOWN_FORMAT, f"messages is {_kind_name(messages)}, not a list")
    return None if messages else Violation(RowRule.MESSAGES_EMPTY, "[]")


def _join_parts(
    row: dict[str, Any],
) -> tuple[list[Any], int, frozenset[int], list[Violation]]:
    """Put the messages of prompt and completion behind each other."""
    messages: list[Any] = []
    plain_turns: set[int] = set()
    violations: list[Violation] = []
    n_prompt_messages = 0
    for name, role, rule in (
        ("prompt", "user", RowRule.PROMPT_EMPTY),
        ("completion", "assistant", RowRule.COMPLETION_EMPTY),
    ):
        value = row[name]
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            violations.append(Violation(rule, json.dumps(value)))
        if isinstance(value, list):
            messages.extend(_canonical(message) for message in value)
        else:
            plain_turns.add(len(messages))
            messages.append({"role": role, "content": "" if value is None else value})
        if name == "prompt":
            n_prompt_messages = len(messages)
    return messages, n_prompt_messages, frozenset(plain_turns), violations


def _as_list(value: Any) -> Any:
    """Read a list that was stored as JSON text, as CSV files and many tool columns do."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _canonical(message: Any) -> Any:
    """Put role and content first and leave out fields that are null."""
    if not isinstance(message, dict):
        return message
    rest = {k: v for k, v in message.items() if v is not None and k not in ("role", "content")}
    return {"role": message.get("role"), "content": message.get("content"), **rest}


def _kind_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
