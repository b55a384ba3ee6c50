"""The messages of a block of rows in columns, one entry for each message."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from schemas.rows.plain_rows import PlainRow
from schemas.rows.recognised_rows import RecognisedRows
from schemas.rows.recognition import Recognised

NOT_COMPARED = frozenset(("role", "content", "weight", "tool_call_id", "id"))
"""Fields without meaning of their own: two calls with other ids are the same call."""


@dataclass
class Layout:
    """Messages of a block of rows, in columns; one entry per message."""

    rows: list[int] = field(default_factory=list)
    """Numbers of the rows with a conversation; one entry per row."""
    lengths: list[int] = field(default_factory=list)
    """Number of messages of each of these rows."""
    roles: list[Any] = field(default_factory=list)
    contents: list[Any] = field(default_factory=list)
    kinds: dict[int, str | None] = field(default_factory=dict)
    """Kind of content, for messages without plain text."""
    not_objects: list[int] = field(default_factory=list)
    additions: dict[int, str] = field(default_factory=dict)
    """Texts of a message besides its content: tool calls, names, reasoning."""
    comparable: dict[int, str] = field(default_factory=dict)
    """The same as JSON, with numbers but without ids, to compare messages by."""
    calling_rows: set[int] = field(default_factory=set)
    """Rows with tools, tool calls or weights."""


def lay_out(recognised: RecognisedRows) -> Layout:
    """Collect the messages of a block of rows; rows without a conversation are left out."""
    layout = Layout()
    first = 0
    items: list[Any] = recognised.rows.items
    for number, row in recognised.others.items():
        _lay_out_plain(layout, items[first:number], first)
        _lay_out_row(layout, row, number)
        first = number + 1
    _lay_out_plain(layout, items[first:], first)
    if recognised.others:
        if set(map(type, layout.roles)) != {str}:
            _name_roles(layout)
        if set(map(type, layout.contents)) != {str}:
            _class_contents(layout)
    return layout


def _lay_out_plain(layout: Layout, rows: list[PlainRow], first: int) -> None:
    """Add a slice of plain rows."""
    layout.rows.extend(range(first, first + len(rows)))
    layout.lengths.extend([len(row.messages) for row in rows])
    messages = [message for row in rows for message in row.messages]
    layout.roles.extend([message.role for message in messages])
    layout.contents.extend([message.content for message in messages])


def _lay_out_row(layout: Layout, recognised: Recognised, number: int) -> None:
    """Add any other row."""
    conversation, blank_turns, _ = recognised
    if conversation is None:
        return
    first = len(layout.roles)
    layout.rows.append(number)
    layout.lengths.append(len(conversation.messages))
    if conversation.tools is not None:
        layout.calling_rows.add(number)
    for message in conversation.messages:
        if type(message) is dict and len(message) == 2:
            layout.roles.append(message["role"])
            layout.contents.append(message["content"])
        else:
            _lay_out_unusual(layout, message, number)
    for turn in blank_turns:
        layout.kinds[first + turn] = "text"


def _lay_out_unusual(layout: Layout, message: Any, number: int) -> None:
    """Add a message that has more than role and content, or is not an object."""
    place = len(layout.roles)
    if not isinstance(message, dict):
        layout.not_objects.append(place)
        layout.kinds[place] = None
        layout.roles.append(None)
        layout.contents.append(None)
        return
    role, content = message.get("role"), message.get("content")
    layout.roles.append(role)
    layout.contents.append(content)
    layout.calling_rows.add(number)
    if (content is None or content == "") and message.get("tool_calls"):
        layout.kinds[place] = "text"
    rest = [value for name, value in message.items() if name not in ("role", "content")]
    addition = "\n".join(texts_in(rest))
    if addition:
        layout.additions[place] = addition
    compared = {name: value for name, value in message.items() if name not in NOT_COMPARED}
    if "tool_calls" in compared:
        calls = compared["tool_calls"]
        compared["tool_calls"] = [
            call.get("function", call) if isinstance(call, dict) else call
            for call in (calls if isinstance(calls, list) else [calls])
        ]
    if compared:
        layout.comparable[place] = json.dumps(compared, sort_keys=True, ensure_ascii=False)


def texts_in(value: Any) -> list[str]:
    """Collect every text in a value, in order; with a stack, since a value may be nested deeply."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            waiting.extend(reversed([*item.keys(), *item.values()]))
        elif isinstance(item, list):
            waiting.extend(reversed(item))
    return found


def _name_roles(layout: Layout) -> None:
    for place, role in enumerate(layout.roles):
        if not isinstance(role, str) and layout.kinds.get(place, "") is not None:
            layout.roles[place] = f"({'missing' if role is None else 'not a text'})"


def _class_contents(layout: Layout) -> None:
    """Classify contents that are not text, and remove them from the texts."""
    for place, content in enumerate(layout.contents):
        if not isinstance(content, str):
            kind = "missing" if content is None else f"not a text: {type(content).__name__}"
            layout.kinds.setdefault(place, kind)
            layout.contents[place] = None
