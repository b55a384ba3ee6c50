"""Recognise a row: its format, its conversation, and which rules its shape breaks.

The rules are defined in `schemas/rules/row_rules.py`; those on single messages are checked in
`schemas/rules/check_rows.py`.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.rows._conversions import (
    canonical_message,
    from_alpaca,
    from_sharegpt,
    is_alpaca,
    is_sharegpt,
)
from schemas.rows.row import Conversation, Conversion, RowFormat, SourceRow, is_stored
from schemas.rows.tool_calls import canonical_tools, parse_if_json
from schemas.rule_ids import RowRule, Violation

FIELDS = frozenset(("messages", "prompt", "completion", "tools"))
NOTHING: frozenset[int] = frozenset()
CANONICAL = frozenset(
    ("file", "line", "format", "messages", "n_prompt_messages", "tools", "columns")
)
"""Fields of a line that a stage wrote, such as `eval.jsonl` of an earlier run."""

Recognised = tuple[Conversation | None, frozenset[int], list[Violation]]


def recognise(source: SourceRow) -> Recognised:
    """Read a row as a conversation and list the rules its shape breaks.

    Args:
        source: The row as read, with column names already mapped.

    Returns:
        The conversation if there is one, the turns made from an empty prompt or completion
        (already reported by prompt_empty and completion_empty), and the violations.
    """
    if source.unparseable:
        return None, NOTHING, [Violation(RowRule.UNPARSEABLE_LINE, source.unparseable)]
    row = source.row
    if not isinstance(row, dict):
        return None, NOTHING, [Violation(RowRule.NOT_AN_OBJECT, kind_name(row))]
    if len(row) == len(CANONICAL) and row.keys() == CANONICAL and is_stored(row):
        conversation = Conversation.from_json(row)
        conversation.messages = [canonical_message(message) for message in row["messages"]]
        return conversation, NOTHING, []
    if row.get("messages") is not None:
        return _from_messages(source, row)
    if (
        "prompt" in row
        and "completion" in row
        # both null: empty columns of a table in another format
        and not (
            row["prompt"] is row["completion"] is None and (is_sharegpt(row) or is_alpaca(row))
        )
    ):
        return _from_parts(source, row, _extra_formats(row, RowFormat.PROMPT_COMPLETION))
    if is_sharegpt(row):
        return _from_sharegpt(source, row)
    if is_alpaca(row):
        return _from_alpaca(source, row)
    names = ", ".join(list(row)[:8]) or "none"
    return None, NOTHING, [Violation(RowRule.UNKNOWN_FORMAT, f"columns: {names}")]


def _from_messages(source: SourceRow, row: dict[str, Any]) -> Recognised:
    messages = row["messages"]
    if len(row) == 1 and type(messages) is list and messages:
        found = [canonical_message(message) for message in messages]
        conversation = Conversation(source.file, source.line, RowFormat.MESSAGES, found)
        if found != messages:
            _note_rewriting(conversation, messages)
        return conversation, NOTHING, []
    parsed = as_list(messages)
    problem = _list_problem("messages", parsed)
    if problem:
        return None, NOTHING, [problem]
    found = [canonical_message(message) for message in parsed]
    conversation = Conversation(source.file, source.line, RowFormat.MESSAGES, found)
    return _finish(conversation, row, parsed, _extra_formats(row, RowFormat.MESSAGES))


def _from_sharegpt(source: SourceRow, row: dict[str, Any]) -> Recognised:
    turns = as_list(row["conversations"])
    problem = _list_problem("conversations", turns)
    if problem:
        return None, NOTHING, [problem]
    messages = from_sharegpt({**row, "conversations": turns})
    conversation = Conversation(source.file, source.line, RowFormat.SHAREGPT, messages)
    conversation.conversions = (Conversion.SHAREGPT,)
    return _finish(conversation, row, turns, _extra_formats(row, RowFormat.SHAREGPT))


def _from_alpaca(source: SourceRow, row: dict[str, Any]) -> Recognised:
    messages = from_alpaca(row)
    violations, blank = [], set()
    for name, rule, place in (
        ("instruction", RowRule.PROMPT_EMPTY, -2),
        ("output", RowRule.COMPLETION_EMPTY, -1),
    ):
        if is_blank(row[name]):
            violations.append(Violation(rule, json.dumps(row[name])))
            blank.add(len(messages) + place)
    if row.get("input") and not is_blank(row["input"]):
        violations = [found for found in violations if found.rule != RowRule.PROMPT_EMPTY]
    n_prompt_messages = None if row.get("history") else len(messages) - 1
    conversation = Conversation(
        source.file, source.line, RowFormat.ALPACA, messages, n_prompt_messages
    )
    conversation.conversions = (Conversion.ALPACA,)
    for turn in blank:
        if messages[turn]["content"] is None:
            messages[turn]["content"] = ""
    found, _, problems = _finish(conversation, row, [], violations)
    return found, frozenset(blank), problems


def _from_parts(source: SourceRow, row: dict[str, Any], violations: list[Violation]) -> Recognised:
    messages: list[Any] = []
    originals: list[Any] = []
    blank: set[int] = set()
    n_prompt_messages = 0
    for name, role, rule in (
        ("prompt", "user", RowRule.PROMPT_EMPTY),
        ("completion", "assistant", RowRule.COMPLETION_EMPTY),
    ):
        value = as_messages(row[name])
        if is_blank(value):
            violations.append(Violation(rule, json.dumps(value)))
            if value != []:
                blank.add(len(messages))
        if isinstance(value, list):
            originals.extend(value)
            messages.extend([canonical_message(message) for message in value])
        else:
            messages.append({"role": role, "content": "" if value is None else value})
        if name == "prompt":
            n_prompt_messages = len(messages)
    if not messages:
        return None, NOTHING, [*violations, Violation(RowRule.MESSAGES_EMPTY, "[]")]
    conversation = Conversation(
        source.file, source.line, RowFormat.PROMPT_COMPLETION, messages, n_prompt_messages
    )
    found, _, problems = _finish(conversation, row, originals, violations)
    return found, frozenset(blank), problems


def _finish(
    conversation: Conversation,
    row: dict[str, Any],
    originals: list[Any],
    violations: list[Violation],
) -> Recognised:
    """Add tools and single-value columns; reject tools that are not a list."""
    tools = canonical_tools(row["tools"]) if row.get("tools") is not None else None
    if tools is not None and not isinstance(tools, list):
        detail = f"tools is {kind_name(tools)}, not a list"
        return None, NOTHING, [Violation(RowRule.UNKNOWN_FORMAT, detail)]
    conversation.tools = tools or None
    used = USED_FIELDS[conversation.format]
    if not row.keys() <= used:
        conversation.columns = {
            name: value
            for name, value in row.items()
            if name not in used and isinstance(value, (str, int, float, bool))
        }
    if any(isinstance(row.get(name), str) for name in ("messages", "conversations", "tools")):
        conversation.conversions = (*conversation.conversions, Conversion.JSON_TEXT)
    if conversation.format is not RowFormat.SHAREGPT:
        _note_rewriting(conversation, originals)
    return conversation, NOTHING, violations


USED_FIELDS = {
    RowFormat.MESSAGES: FIELDS,
    RowFormat.PROMPT_COMPLETION: FIELDS,
    RowFormat.SHAREGPT: FIELDS | {"conversations", "system"},
    RowFormat.ALPACA: FIELDS | {"instruction", "input", "output", "system", "history"},
}
MARKS = {
    RowFormat.MESSAGES: ("messages",),
    RowFormat.PROMPT_COMPLETION: ("prompt", "completion"),
    RowFormat.SHAREGPT: ("conversations",),
    RowFormat.ALPACA: ("instruction", "output"),
}
"""Fields that identify the format of a row."""


def _extra_formats(row: dict[str, Any], chosen: RowFormat) -> list[Violation]:
    """Report the fields of a second format; a null field is an empty column of a table."""
    if len(row) == len(MARKS[chosen]):
        return []
    for other, marks in MARKS.items():
        if other != chosen and any(row.get(mark) is not None for mark in marks):
            detail = f"has {'/'.join(MARKS[chosen])} and {'/'.join(marks)}"
            return [Violation(RowRule.MIXED_FORMAT, detail)]
    return []


def _note_rewriting(conversation: Conversation, originals: list[Any]) -> None:
    """Record what the canonical messages no longer show: joined text parts, converted tool calls."""
    noted = set()
    for original, message in zip(originals, conversation.messages, strict=False):
        if message is original or type(original) is not dict or type(message) is not dict:
            continue
        if type(original.get("content")) is list and type(message["content"]) is str:
            noted.add(Conversion.TEXT_PARTS)
        if original.get("tool_calls") != message.get("tool_calls"):
            noted.add(Conversion.TOOL_CALLS)
    conversation.conversions = (*conversation.conversions, *sorted(noted))


def _list_problem(name: str, value: Any) -> Violation | None:
    if not isinstance(value, list):
        return Violation(RowRule.UNKNOWN_FORMAT, f"{name} is {kind_name(value)}, not a list")
    return None if value else Violation(RowRule.MESSAGES_EMPTY, "[]")


def is_blank(value: Any) -> bool:
    """Return True for null, white space and an empty list."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def as_list(value: Any) -> Any:
    """Parse a list stored as JSON text, as in CSV files and many tool columns; else return the value."""
    is_list_text = isinstance(value, str) and value.lstrip().startswith("[")
    return parse_if_json(value) if is_list_text else value


def as_messages(value: Any) -> Any:
    """Parse a list of messages stored as JSON text; any other text stays a text."""
    parsed = as_list(value)
    if parsed is value:
        return value
    is_messages = parsed and all(isinstance(item, dict) and "role" in item for item in parsed)
    return parsed if is_messages else value


def kind_name(value: Any) -> str:
    """Return the JSON kind of a value with its article, e.g. `a list`."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
