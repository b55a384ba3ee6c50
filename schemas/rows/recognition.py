"""Recognise a row: its format, its conversation, and which rules its shape breaks.

The rules are defined in `schemas/rules/row_rules.py`; those on single messages are checked in
`schemas/rules/check_rows.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from schemas.rows._columns import read_columns
from schemas.rows._conversions import (
    are_plain,
    canonical_message,
    canonical_messages,
    from_alpaca,
    from_sharegpt,
    is_alpaca,
    is_sharegpt,
)
from schemas.rows._other_tasks import why_unknown
from schemas.rows._other_texts import is_contained
from schemas.rows.message_fields import TOOLS, Note, not_used, take_tools
from schemas.rows.padding import drop_padding
from schemas.rows.row import Conversation, Conversion, RowFormat, SourceRow, is_stored
from schemas.rows.tool_calls import canonical_tools, parse_if_json, with_parameters
from schemas.rows.values import is_blank, kind_name, shown
from schemas.rule_ids import RowRule, Violation

TOOLS_OF_A_MESSAGE = frozenset(f"messages[].{name}" for name in TOOLS)
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
        return None, NOTHING, [Violation(RowRule.NOT_AN_OBJECT, f"the row is {kind_name(row)}")]
    if len(row) == len(CANONICAL) and row.keys() == CANONICAL and is_stored(row):
        conversation = Conversation.from_json(row)
        conversation.messages = [canonical_message(message, []) for message in row["messages"]]
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
        return _from_parts(source, row)
    if is_sharegpt(row):
        return _from_sharegpt(source, row)
    if is_alpaca(row):
        return _from_alpaca(source, row)
    return None, NOTHING, [why_unknown(row)]


def _from_messages(source: SourceRow, row: dict[str, Any]) -> Recognised:
    messages = row["messages"]
    if len(row) == 1 and type(messages) is list and messages and are_plain(messages):
        return Conversation(source.file, source.line, RowFormat.MESSAGES, messages), NOTHING, []
    parsed = as_list(messages)
    problem = _list_problem("messages", parsed)
    if problem:
        return None, NOTHING, [problem]
    notes: list[Note] = []
    found = canonical_messages(parsed, notes)
    conversation = Conversation(source.file, source.line, RowFormat.MESSAGES, found)
    return _finish(conversation, row, notes)


def _from_sharegpt(source: SourceRow, row: dict[str, Any]) -> Recognised:
    turns = as_list(row["conversations"])
    problem = _list_problem("conversations", turns)
    if problem:
        return None, NOTHING, [problem]
    notes: list[Note] = [Conversion.SHAREGPT]
    messages = from_sharegpt(turns, notes)
    conversation = Conversation(source.file, source.line, RowFormat.SHAREGPT, messages)
    return _finish(conversation, row, notes)


def _from_alpaca(source: SourceRow, row: dict[str, Any]) -> Recognised:
    messages = from_alpaca(row)
    violations, blank = [], set()
    for place, (name, rule) in enumerate(
        (("instruction", RowRule.PROMPT_EMPTY), ("output", RowRule.COMPLETION_EMPTY))
    ):
        has_input = name == "instruction" and not is_blank(row.get("input"))
        if is_blank(row[name]) and not has_input:
            violations.append(Violation(rule, f"{name} is {shown(row[name])}"))
            blank.add(place)
    conversation = Conversation(source.file, source.line, RowFormat.ALPACA, messages, 1)
    for turn in blank:
        if not isinstance(messages[turn]["content"], str):
            messages[turn]["content"] = ""
    return _finish(conversation, row, [Conversion.ALPACA], violations, blank)


def _from_parts(source: SourceRow, row: dict[str, Any]) -> Recognised:
    violations: list[Violation] = []
    messages: list[Any] = []
    notes: list[Note] = []
    blank: set[int] = set()
    n_prompt_messages = 0
    for name, role, rule in (
        ("prompt", "user", RowRule.PROMPT_EMPTY),
        ("completion", "assistant", RowRule.COMPLETION_EMPTY),
    ):
        value = as_messages(row[name])
        if is_blank(value):
            violations.append(Violation(rule, f"{name} is {shown(value)}"))
            if value != []:
                blank.add(len(messages))
        if isinstance(value, list):
            messages.extend(canonical_messages(value, notes))
        else:
            is_nothing = is_blank(value) and not isinstance(value, str)
            messages.append({"role": role, "content": "" if is_nothing else value})
        if name == "prompt":
            n_prompt_messages = len(messages)
    if not messages:
        detail = "prompt and completion are empty lists"
        return None, NOTHING, [*violations, Violation(RowRule.MESSAGES_EMPTY, detail)]
    conversation = Conversation(
        source.file, source.line, RowFormat.PROMPT_COMPLETION, messages, n_prompt_messages
    )
    return _finish(conversation, row, notes, violations, blank)


def _finish(
    conversation: Conversation,
    row: dict[str, Any],
    notes: list[Note],
    violations: list[Violation] | None = None,
    blank: Collection[int] = NOTHING,
) -> Recognised:
    """Add tools and other columns, and sort the notes; reject tools that are not a list."""
    tools = canonical_tools(row["tools"]) if row.get("tools") is not None else None
    if tools is not None and not isinstance(tools, list):
        detail = f"tools is {shown(tools)}, not a list of tools"
        return None, NOTHING, [Violation(RowRule.UNKNOWN_FORMAT, detail)]
    conversation.tools = tools
    given = row.get("messages") or row.get("conversations")
    if type(given) is str or (tools and type(row["tools"]) is str):
        notes.append(Conversion.JSON_TEXT)
    n_messages = len(conversation.messages)
    violations = violations or []
    if not row.keys() <= USED_FIELDS[conversation.format]:
        violations = [*_read_others(conversation, row, notes), *violations]
    if conversation.tools:
        tools = with_parameters(conversation.tools)
        if tools is not conversation.tools:
            conversation.tools = tools
            notes.append(Conversion.TOOL_SCHEMAS)
    if len(notes) == 1 and type(notes[0]) is Conversion:
        conversation.conversions = (notes[0],)
    elif notes:
        violations = [*violations, *_sort(conversation, notes)]
        if any(violation.rule is RowRule.PREFERENCE_ROW for violation in violations):
            return None, NOTHING, [v for v in violations if v.rule is RowRule.PREFERENCE_ROW][:1]
    if conversation.tools and drop_padding(conversation):
        conversion = (*conversation.conversions, Conversion.PADDING)
        conversation.conversions = tuple(sorted(conversion))
    n_added = len(conversation.messages) - n_messages
    return conversation, frozenset(place + n_added for place in blank), violations


def _read_others(
    conversation: Conversation, row: dict[str, Any], notes: list[Note]
) -> list[Violation]:
    """Read the columns besides those of the format; report those of a second format."""
    used = USED_FIELDS[conversation.format]
    second = _second_format(row, conversation)
    read_columns(conversation, row, used.union(second or ()), notes)
    if not second:
        return []
    detail = f"has {'/'.join(MARKS[conversation.format])} and {'/'.join(second)}"
    return [Violation(RowRule.MIXED_FORMAT, detail)]


def _sort(conversation: Conversation, notes: list[Note]) -> list[Violation]:
    """Write conversions and unused fields into the conversation, and return the violations."""
    names = {note for note in notes if type(note) is str}
    names.update(conversation.unused_fields)
    if not names.isdisjoint(TOOLS_OF_A_MESSAGE) and _take_tools(conversation, notes):
        names -= TOOLS_OF_A_MESSAGE
    conversation.conversions = tuple(sorted({n for n in notes if isinstance(n, Conversion)}))
    conversation.unused_fields = tuple(sorted(names))
    return list(dict.fromkeys(note for note in notes if isinstance(note, Violation)))


def _take_tools(conversation: Conversation, notes: list[Note]) -> bool:
    """Read tools that are fields of messages; return False if some of them are not used."""
    known = conversation.tools
    tools = take_tools(conversation.messages, known)
    if tools and known is None:
        conversation.tools = with_parameters(tools)
        notes.append(Conversion.TOOLS)
        if conversation.tools is not tools:
            notes.append(Conversion.TOOL_SCHEMAS)
    left = [message for message in conversation.messages if isinstance(message, dict)]
    if all(is_blank(canonical_tools(message.get(name))) for message in left for name in TOOLS):
        return True
    detail = "tools of a message are not those of the row or of another message"
    notes.append(not_used(detail))
    return False


MARKS = {
    RowFormat.MESSAGES: ("messages",),
    RowFormat.PROMPT_COMPLETION: ("prompt", "completion"),
    RowFormat.SHAREGPT: ("conversations",),
    RowFormat.ALPACA: ("instruction", "output"),
}
"""Fields that identify the format of a row."""
USED_FIELDS = {
    kind: frozenset(("tools", *marks, *(("input",) * (kind is RowFormat.ALPACA))))
    for kind, marks in MARKS.items()
}
"""Fields that `recognise` reads itself; `_columns.py` reads the others."""


def _second_format(row: dict[str, Any], conversation: Conversation) -> tuple[str, ...]:
    """Return the fields of a second format with another content, if all of them have one.

    Many public sets repeat the first user turn in `prompt` or `instruction`, next to the messages.
    """
    for other, marks in MARKS.items():
        if other != conversation.format and not any(is_blank(row.get(mark)) for mark in marks):
            if all(is_contained(row[mark], conversation) for mark in marks):
                continue
            return marks
    return ()


def _list_problem(name: str, value: Any) -> Violation | None:
    if not isinstance(value, list):
        return Violation(RowRule.UNKNOWN_FORMAT, f"{name} is {kind_name(value)}, not a list")
    return None if value else Violation(RowRule.MESSAGES_EMPTY, f"{name} is an empty list")


def as_list(value: Any) -> Any:
    """Parse a list stored as JSON text, as in CSV files and many tool columns; else return the value."""
    is_list_text = isinstance(value, str) and value.lstrip().startswith("[")
    return parse_if_json(value) if is_list_text else value


def as_messages(value: Any) -> Any:
    """Read a single message, or messages stored as JSON text, as a list; a text stays a text."""
    if isinstance(value, dict) and _is_message(value):
        return [value]
    parsed = as_list(value)
    if parsed is value:
        return value
    return parsed if parsed and all(map(_is_message, parsed)) else value


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or ("from" in value and "value" in value))
