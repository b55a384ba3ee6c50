"""The flat table of messages that the message rules check: one row per message."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.rows.recognised_rows import RecognisedRows
from schemas.rule_ids import RowRule
from schemas.rules._layout import Layout, texts_in
from schemas.rules._text_rules import describe_text, text_flags
from schemas.rules._tool_rules import tool_problems, weight_problems
from schemas.texts.residue import VISIBLE

if TYPE_CHECKING:
    import numpy
    import polars
    from numpy.typing import NDArray

OPENING_ROLES = ("system", "developer")
TURN_ROLES = ("user", "assistant", "tool")
CALL_RULES = (RowRule.TOOL_CALL_INVALID, RowRule.TOOL_RESULT_UNMATCHED, RowRule.WEIGHT_INVALID)
"""Rules that check several messages together; flagged on the first message of the row."""


@dataclass(frozen=True)
class MessageFrame:
    """What the message schema validates, and details of what the rows break."""

    frame: polars.DataFrame
    """Null where a column does not apply to a message."""
    details: dict[tuple[int, RowRule], str]
    """Row and rule to what was found, for the rules of `CALL_RULES` and markers in tools."""


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
    is_answer = polars.Series(is_assistant)
    flags = text_flags(frame["text"], rules, special_tokens, is_answer)
    details = _call_details(layout, recognised, rules)
    if RowRule.SPECIAL_TOKEN_INJECTION in rules:
        details |= _marked_tools(layout, recognised, special_tokens)
    for rule, flag in _row_flags(layout, details, starts, n_messages).items():
        flags[rule] = flags[rule] | flag if rule in flags else flag
    return MessageFrame(
        frame.with_columns(**{str(rule): flag for rule, flag in flags.items()}), details
    )


def _row_flags(
    layout: Layout,
    details: dict[tuple[int, RowRule], str],
    starts: NDArray[numpy.int64],
    n_messages: int,
) -> dict[RowRule, polars.Series]:
    """Flag the first message of each row that has details: of `CALL_RULES` always, of others if found."""
    import numpy
    import polars

    flags = {}
    for rule in dict.fromkeys((*CALL_RULES, *(rule for _, rule in details))):
        flag = numpy.zeros(n_messages, dtype=bool)
        broken = [number for number, found in details if found == rule]
        if broken:
            flag[starts[numpy.searchsorted(layout.rows, broken)]] = True
        flags[rule] = polars.Series(flag)
    return flags


def _marked_tools(
    layout: Layout, recognised: RecognisedRows, special_tokens: Sequence[str]
) -> dict[tuple[int, RowRule], str]:
    """Find markers in the names, descriptions and parameters of tools, which templates write out."""
    import polars

    rule = RowRule.SPECIAL_TOKEN_INJECTION
    conversations = ((row, recognised[row][0]) for row in sorted(layout.calling_rows))
    texts = {row: "\n".join(texts_in(found.tools)) for row, found in conversations if found}
    flags = text_flags(
        polars.Series(list(texts.values()), dtype=polars.String), (rule,), special_tokens
    )
    return {
        (row, rule): f"{describe_text(rule, text, special_tokens)} in the tools"
        for (row, text), is_marked in zip(texts.items(), flags[rule], strict=True)
        if is_marked
    }


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
