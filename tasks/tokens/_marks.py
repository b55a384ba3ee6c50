"""A conversation with a mark in the place of each text, to see what a template does with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Message = dict[str, Any]

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
STRUCTURE = frozenset(("role", "content", "tool_calls", "weight", "tool_call_id", "id"))
"""Fields that are not texts of their own; ids only connect a call with its result."""
NO_TEXT_OF_A_TOOL = ("type", "strict")
"""Fields of a tool besides name, description and parameters that say nothing to the model."""
THOUGHT = re.compile(r"(<think>|</think>)")
FIRST_NUMBER = 731_000_000
"""Marks that are numbers, where a template may treat numbers otherwise than texts."""


class LeafKind(StrEnum):
    """What a text is, which decides whether a row may do without it."""

    CONTENT = "content"
    REASONING = "reasoning"
    CALL = "call"
    TOOL = "tool"
    ROLE = "role"
    """Has no mark: the template is asked whether it writes the role otherwise than the user's."""
    DETAIL = "detail"
    """Descriptions, names of speakers and other fields."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One text of a conversation, and the mark in its place."""

    where: str
    kind: LeafKind
    message: int
    """Counted from 0; -1 for a tool."""
    value: str
    """The text, where it has to be in a rendered row as it is; empty for parts of calls and tools."""
    mark: str


@dataclass(slots=True)
class MarkedRow:
    """Messages and tools with marks; rows of the same shape have the same ones."""

    messages: list[Message] = field(default_factory=list)
    tools: list[Any] | None = None
    leaves: list[Leaf] = field(default_factory=list)


def mark_row(messages: list[Message], tools: list[Any] | None) -> MarkedRow:
    """Replace the texts of a conversation by marks; role, ids and structure stay."""
    row = MarkedRow()
    if tools is not None:
        row.tools = [_mark_tool(row, number, tool) for number, tool in enumerate(tools, 1)]
    called: set[str] = set()
    for number, message in enumerate(messages):
        row.messages.append(_mark_message(row, number, message, called))
        called |= {call["function"]["name"] for call in _calls(message)}
    return row


def thought_parts(text: str) -> Iterator[tuple[bool, str]]:
    """Split an answer at its think tags; yield whether a part is reasoning, and the part."""
    parts = THOUGHT.split(text)
    is_reasoning = len(parts) > 1 and parts[1] == "</think>"  # the prompt has opened it
    for part in parts:
        if THOUGHT.fullmatch(part):
            is_reasoning = part == "<think>"
            yield False, part
        else:
            yield is_reasoning, part


def _calls(message: Message) -> list[dict[str, Any]]:
    """Return the calls of a message that have a function with a name."""
    return [
        call
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict)
        and isinstance(call.get("function"), dict)
        and isinstance(call["function"].get("name"), str)
    ]


def _mark_message(row: MarkedRow, number: int, message: Message, called: set[str]) -> Message:
    where = f"message {number + 1}"
    marked: Message = {}
    row.leaves.append(Leaf(f"{where}: role {message['role']}", LeafKind.ROLE, number, "", ""))
    for name, value in message.items():
        if name == "weight" or value is None:
            if name != "weight":
                marked[name] = value
        elif name == "content":
            marked[name] = _mark_content(row, number, message)
        elif name == "tool_calls":
            marked[name] = [_mark_call(row, number, call) for call in value]
        elif name in STRUCTURE or (
            name == "name" and message["role"] == "tool" and value in called
        ):
            marked[name] = value
        elif name in REASONING_FIELDS and message["role"] == "assistant":
            marked[name] = _text(row, f"{where}: {name}", LeafKind.REASONING, number, value)
        else:
            marked[name] = _value(row, f"{where}: {name}", LeafKind.DETAIL, number, value)
    return marked


def _mark_content(row: MarkedRow, number: int, message: Message) -> Any:
    where, content = f"message {number + 1}: content", message["content"]
    if not isinstance(content, str):
        return _value(row, where, LeafKind.CONTENT, number, content)
    if message["role"] != "assistant" or not THOUGHT.search(content):
        return _text(row, where, LeafKind.CONTENT, number, content)
    parts = []
    for is_reasoning, part in thought_parts(content):
        if THOUGHT.fullmatch(part) or not part.strip():
            parts.append(part)
            continue
        kind = LeafKind.REASONING if is_reasoning else LeafKind.CONTENT
        place = f"message {number + 1}: reasoning in content" if is_reasoning else where
        space = len(part) - len(part.lstrip()), len(part.rstrip())
        mark = _text(row, place, kind, number, part)
        parts.append(part[: space[0]] + mark + part[space[1] :])
    return "".join(parts)


def _mark_call(row: MarkedRow, number: int, call: Any) -> Any:
    where = f"message {number + 1}: tool_calls"
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return _value(row, where, LeafKind.CALL, number, call)
    function = dict(call["function"])
    name, arguments = function.get("name"), function.get("arguments")
    place = f"{where} ({name})"
    if isinstance(name, str):
        function["name"] = _structured(row, place, LeafKind.CALL, number)
    if arguments:
        function["arguments"] = _value(row, place, LeafKind.CALL, number, arguments)
    return {**call, "function": function}


def _mark_tool(row: MarkedRow, number: int, tool: Any) -> Any:
    where = f"tool {number}"
    if not isinstance(tool, dict):
        return _value(row, where, LeafKind.TOOL, -1, tool)
    is_wrapped = isinstance(tool.get("function"), dict)
    function = dict(tool["function"] if is_wrapped else tool)
    where = f"{where} ({function.get('name')})"
    for name, value in function.items():
        if name == "name":
            function[name] = _structured(row, where, LeafKind.TOOL, -1)
        elif name == "description" and isinstance(value, str) and value.strip():
            place = f"{where}, its description"
            function[name] = _structured(row, place, LeafKind.DETAIL, -1)
        elif name == "parameters" and isinstance(value, dict):
            function[name] = _mark_schema(row, where, LeafKind.TOOL, value)
        elif name not in NO_TEXT_OF_A_TOOL:
            place = f"{where}, its {name}"
            is_schema = isinstance(value, dict) and "type" in value
            mark = _mark_schema if is_schema else _mark_other
            function[name] = mark(row, place, LeafKind.DETAIL, value)
    return {**tool, "function": function} if is_wrapped else function


def _mark_other(row: MarkedRow, where: str, kind: LeafKind, value: Any) -> Any:
    return _value(row, where, kind, -1, value)


def _mark_schema(row: MarkedRow, where: str, kind: LeafKind, schema: Any) -> Any:
    """Mark the names and descriptions of parameters; those within a parameter are details."""
    if isinstance(schema, list):
        return [_mark_schema(row, where, LeafKind.DETAIL, part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    marked: dict[str, Any] = {}
    names: dict[str, str] = {}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        names = {
            name: _structured(row, f"{where}, parameter {name}", kind, -1) for name in properties
        }
    for key, value in schema.items():
        if key == "properties" and names:
            marked[key] = {
                names[name]: _mark_schema(row, f"{where}, parameter {name}", LeafKind.DETAIL, inner)
                for name, inner in value.items()
            }
        elif key == "required" and isinstance(value, list):
            marked[key] = [
                names.get(name, name) if isinstance(name, str) else name for name in value
            ]
        elif key == "description" and isinstance(value, str) and value.strip():
            marked[key] = _structured(row, f"{where}, description", LeafKind.DETAIL, -1)
        elif key in ("enum", "const"):
            marked[key] = _value(row, f"{where}, {key}", LeafKind.DETAIL, -1, value)
        else:
            marked[key] = _mark_schema(row, where, LeafKind.DETAIL, value)
    return marked


def _value(row: MarkedRow, where: str, kind: LeafKind, number: int, value: Any) -> Any:
    """Mark the keys, texts and numbers of any value; true, false, null and empty ones stay."""
    if isinstance(value, dict):
        return {
            _structured(row, _argument(where, key), kind, number): _value(
                row, _argument(where, key), kind, number, inner
            )
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_value(row, where, kind, number, inner) for inner in value]
    if isinstance(value, str):
        return _structured(row, where, kind, number) if value.strip() else value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        mark = FIRST_NUMBER + len(row.leaves)
        row.leaves.append(Leaf(where, kind, number, "", str(mark)))
        return mark + 0.5 if isinstance(value, float) else mark
    return value


def _argument(where: str, key: str) -> str:
    return where if ", argument " in where else f"{where}, argument {key}"


def _text(row: MarkedRow, where: str, kind: LeafKind, number: int, value: Any) -> Any:
    if not isinstance(value, str):
        return _value(row, where, kind, number, value)
    if not value.strip():
        return value
    mark = f"sftmark{len(row.leaves):06d}"
    row.leaves.append(Leaf(where, kind, number, value.strip(), mark))
    return mark


def _structured(row: MarkedRow, where: str, kind: LeafKind, number: int) -> str:
    mark = f"sftmark{len(row.leaves):06d}"
    row.leaves.append(Leaf(where, kind, number, "", mark))
    return mark
