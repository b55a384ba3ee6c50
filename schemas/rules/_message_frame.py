"""The flat table of messages that the message rules check: one row per message."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.rows.plain_rows import PlainRow
from schemas.rows.recognition import Recognised, RecognisedRows
from schemas.rule_ids import RowRule
from schemas.rules._text_rules import text_flags
from schemas.rules._tool_rules import tool_problems, weight_problems
from schemas.texts.residue import VISIBLE

if TYPE_CHECKING:
    import numpy
    import polars
    from numpy.typing import NDArray

OPENING_ROLES = ("system", "developer")
NOT_COMPARED = frozenset(("role", "content", "weight", "tool_call_id", "id"))
"""Fields without meaning of their own: two calls with other ids are the same call."""
TURN_ROLES = ("user", "assistant", "tool")
CALL_RULES = (RowRule.TOOL_CALL_INVALID, RowRule.TOOL_RESULT_UNMATCHED, RowRule.WEIGHT_INVALID)
"""Rules that check several messages together; flagged on the first message of the row."""


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
    addition = "\n".join(_texts(rest))
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


def _texts(value: Any) -> list[str]:
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


@dataclass(frozen=True)
class MessageFrame:
    """What the message schema validates, and details of what the rows break."""

    frame: polars.DataFrame
    """Null where a column does not apply to a message."""
    details: dict[tuple[int, RowRule], str]
    """Row and rule to what was found, for the rules of `CALL_RULES`."""


def message_frame(
    layout: Layout,
    recognised: RecognisedRows,
    rules: Collection[RowRule],
    special_tokens: Sequence[str] = (),
) -> MessageFrame:
    """Build the flat frame, one row per message.

    Columns: `row`, `turn`, `is_object`, `role`, `text` (all text of a message), `compared` (what
    messages are compared by), `content` (its kind), `step` (role before and role; user, assistant
    and tool only), `opening_turn` (place of a system or developer message), `closing` (role of the
    last message of a conversation that has an assistant turn), `n_assistant_turns`, and one flag
    per rule of `TEXT_RULES` and `CALL_RULES` that is in `rules`. `special_tokens` are those of the
    model, in addition to the known markers.
    """
    import numpy
    import polars

    lengths = numpy.array(layout.lengths, dtype=numpy.int64)
    starts = numpy.cumsum(lengths) - lengths
    n_messages = int(lengths.sum())
    contents = polars.Series("content", layout.contents, dtype=polars.String)
    roles = polars.Series("role", layout.roles, dtype=polars.String)
    is_assistant = (roles == "assistant").fill_null(value=False).to_numpy()
    n_assistant = numpy.add.reduceat(is_assistant, starts) if n_messages else lengths
    is_last = numpy.zeros(n_messages, dtype=bool)
    is_last[starts + lengths - 1] = True
    is_object = numpy.ones(n_messages, dtype=bool)
    is_object[layout.not_objects] = False
    frame = polars.DataFrame(
        {
            "row": numpy.repeat(numpy.array(layout.rows, dtype=numpy.int64), lengths),
            "turn": numpy.arange(n_messages) - numpy.repeat(starts, lengths),
            "is_object": is_object,
            "role": roles,
            "text": _joined(contents, layout.contents, layout.additions),
            "compared": _joined(contents, layout.contents, layout.comparable),
            "n_assistant_turns": numpy.repeat(n_assistant.astype(numpy.int64), lengths),
            "is_last": is_last,
            "content": _content_kinds(layout, contents, roles),
        }
    ).with_columns(*_order_columns())
    flags = text_flags(frame["text"], rules, special_tokens)
    details = _call_details(layout, recognised, rules)
    flags.update(_call_flags(layout, details, starts, n_messages))
    return MessageFrame(
        frame.with_columns(**{str(rule): flag for rule, flag in flags.items()}), details
    )


def _call_flags(
    layout: Layout,
    details: dict[tuple[int, RowRule], str],
    starts: NDArray[numpy.int64],
    n_messages: int,
) -> dict[RowRule, polars.Series]:
    """Flag the first message of each row that breaks a rule of `CALL_RULES`."""
    import numpy
    import polars

    flags = {}
    for rule in CALL_RULES:
        flag = numpy.zeros(n_messages, dtype=bool)
        broken = [number for number, found in details if found == rule]
        if broken:
            flag[starts[numpy.searchsorted(layout.rows, broken)]] = True
        flags[rule] = polars.Series(flag)
    return flags


def _order_columns() -> list[polars.Expr]:
    """Derive the order of speakers, and which roles open and close a conversation."""
    import polars

    column = polars.col
    turn_role = polars.when(column("role").is_in(TURN_ROLES)).then(column("role"))
    before = (
        polars.when(column("turn") == 0)
        .then(polars.lit("start"))
        .otherwise(turn_role.shift(1))
        .forward_fill()
    )
    return [
        (before + ">" + turn_role).alias("step"),
        polars.when(column("role").is_in(OPENING_ROLES)).then(column("turn")).alias("opening_turn"),
        polars.when(column("is_last") & (column("n_assistant_turns") > 0))
        .then(column("role"))
        .alias("closing"),
    ]


def _content_kinds(layout: Layout, contents: polars.Series, roles: polars.Series) -> polars.Series:
    """Classify each content; those of a tool or an opening message may be empty."""
    import polars

    is_text = contents.str.contains(VISIBLE).fill_null(value=False)
    is_text |= roles.is_in((*OPENING_ROLES, "tool")).fill_null(value=False)
    kinds = polars.select(
        polars.when(is_text).then(polars.lit("text")).otherwise(polars.lit("empty")).alias("kind")
    )["kind"]
    if layout.kinds:
        kinds = kinds.scatter(list(layout.kinds), list(layout.kinds.values()))
    return kinds


def _joined(contents: polars.Series, texts: list[Any], additions: dict[int, str]) -> polars.Series:
    if not additions:
        return contents
    places = sorted(additions)
    return contents.clone().scatter(  # it changes the series itself
        places, ["\n".join(filter(None, (texts[place], additions[place]))) for place in places]
    )


def _call_details(
    layout: Layout, recognised: RecognisedRows, rules: Collection[RowRule]
) -> dict[tuple[int, RowRule], str]:
    """Describe what is wrong with tool calls, results and weights: the first of each row and rule."""
    rows = {*layout.calling_rows}
    if "tool" in layout.roles:
        first = 0
        for number, length in zip(layout.rows, layout.lengths, strict=True):
            if "tool" in layout.roles[first : first + length]:
                rows.add(number)
            first += length
    details: dict[tuple[int, RowRule], str] = {}
    for number in sorted(rows):
        conversation = recognised[number][0]
        if conversation is None or not all(isinstance(m, dict) for m in conversation.messages):
            continue
        found = tool_problems(conversation.messages, conversation.tools)
        for rule, detail in (*found, *weight_problems(conversation.messages)):
            if rule in rules:
                details.setdefault((number, rule), detail)
    return details
