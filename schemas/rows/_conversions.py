"""Loss-free conversion into the canonical form: messages as chat templates read them.

Canonical: role and content first, no null fields, text parts joined to one text, tool calls as
`{"type": "function", "function": {"name": …, "arguments": {…}}}`. What cannot be converted without
loss stays unchanged, so that the row rules find it.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.rows.message_fields import (
    MEDIA,
    MESSAGE_FIELDS,
    TOOLS,
    Note,
    note_media,
    note_other,
    other_fields,
    read_fields,
    settle_reasoning,
)
from schemas.rows.row import ROLES, Conversion
from schemas.rows.tool_calls import FUNCTION_CALL, parse_if_json, put_calls, read_calls
from schemas.rows.values import is_blank

CALL_NAMES = (FUNCTION_CALL, "tool_call")
RESULT_NAMES = ("observation", "function_response", "tool_response")
SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "model"), "assistant"),
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(CALL_NAMES, "assistant"),
    **dict.fromkeys(("tool", *RESULT_NAMES), "tool"),
}
"""Speakers in ShareGPT files. Source: LLaMA-Factory 0.9 data/README.md, FastChat, Axolotl, ms-swift."""
SPEAKERS = frozenset(SHAREGPT_ROLES) - frozenset(CALL_NAMES)
TURN_FIELDS = frozenset(("from", "value", "role", "content"))
RESULT_ROLES = frozenset(("function", *RESULT_NAMES))
"""Other names of the role tool; `function` is that of OpenAI's old format."""
PLAIN_ROLES = frozenset(ROLES)
TEXT_TYPES = ("text", "input_text", "output_text")
"""Types of a part with a text, the last two in OpenAI's Responses format; Bedrock writes no type."""


def canonical_messages(messages: list[Any], notes: list[Note]) -> list[Any]:
    """Convert a list of messages; calls of one turn in several messages become one message."""
    if are_plain(messages):
        return messages.copy()
    found: list[Any] = []
    for message in messages:
        converted = canonical_message(message, notes)
        is_call = isinstance(message, dict) and message.get("role") == "tool_call"
        if is_call and found and _only_calls(found[-1]) and _only_calls(converted):
            found[-1]["tool_calls"] += converted["tool_calls"]
        else:
            found.append(converted)
    return found


def _only_calls(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.keys() == {"role", "content", "tool_calls"}
        and message["role"] == "assistant"
        and message["content"] is None
        and isinstance(message["tool_calls"], list)
    )


def are_plain(messages: list[Any]) -> bool:
    """Return True if every message has a known role and a text and nothing else, so stays as it is."""
    try:
        for message in messages:
            if type(message) is not dict or len(message) != 2:
                return False
            first, second = message
            if (
                first != "role"
                or second != "content"
                or type(message["content"]) is not str
                or message["role"] not in PLAIN_ROLES
            ):
                return False
    except TypeError:  # a role that is a list or an object
        return False
    return True


def canonical_message(message: Any, notes: list[Note]) -> Any:
    """Convert a message into canonical form; any value that is not an object stays unchanged.

    Arguments of tool calls that OpenAI's format writes as JSON text become an object: templates
    print them with `tojson`, which would quote a text a second time.

    Args:
        message: A message, or a turn as ShareGPT writes it.
        notes: Gets the conversions and what nothing reads.

    Returns:
        The message, not copied if it is of role and content only.
    """
    if type(message) is not dict:
        return message
    role, content = message.get("role"), message.get("content")
    if role is None and message.get("from") is not None:
        notes.append(Conversion.SHAREGPT)
        return message_of_turn(message, notes)
    if isinstance(role, str) and role not in PLAIN_ROLES:
        if role in CALL_NAMES and message.get("tool_calls") is None:
            notes.append(Conversion.TOOL_CALLS)
            return message_of_turn(message, notes)
        if role in RESULT_ROLES:
            role = "tool"
            notes.append(Conversion.RESULT_ROLE)
    return _canonical(message, role, content, notes)


def _canonical(message: dict[str, Any], role: Any, content: Any, notes: list[Note]) -> Any:
    """Write role and content first, join text parts, and read the other fields."""
    if content is None and role == "tool" and "content" in message:
        content = ""  # a tool may answer with nothing
    elif type(content) is list:
        parts, content = content, join_text_parts(content)
        if content is parts:
            note_media(parts, notes)
        else:
            notes.append(Conversion.TEXT_PARTS)
    elif len(message) == 2 and role is message.get("role"):
        first, second = message
        if first == "role" and second == "content":
            return message
    found = {"role": role, "content": content}
    for name, value in message.items():
        if value is not None and name not in found:
            found[name] = value
    if len(found) > 2:
        _read_rest(found, notes)
    return found


def _read_rest(message: dict[str, Any], notes: list[Note]) -> None:
    """Convert tool calls and the other fields of a message besides role and content, in place."""
    if "tool_calls" in message or FUNCTION_CALL in message:
        given = message.get("tool_calls")
        put_calls(message)
        if message.get("tool_calls") != given and "tool_calls" in message:
            notes.append(Conversion.TOOL_CALLS)
    if not MESSAGE_FIELDS.issuperset(message):
        read_fields(message, notes)
    if "reasoning_content" in message and message["role"] == "assistant":
        settle_reasoning(message, notes)
    weight = message.get("weight")
    if weight == 0 and message["role"] != "assistant" and not isinstance(weight, bool):
        del message["weight"]  # it is not trained anyway


def join_text_parts(content: Any) -> Any:
    """Concatenate text parts, as templates do; other content stays unchanged."""
    if type(content) is not list or not content:
        return content
    texts = []
    for part in content:
        text = part
        if isinstance(part, dict):
            kind = part.get("type")
            rest = [part[name] for name in part if name not in ("text", "type")]
            has_media = any(not is_blank(part[name]) for name in MEDIA.intersection(part))
            is_text = kind in TEXT_TYPES and not has_media
            is_text |= kind is None and rest.count(None) == len(rest)
            text = part.get("text") if is_text else None
        if not isinstance(text, str):
            return content
        texts.append(text)
    return "".join(texts)


def is_sharegpt(row: dict[str, Any]) -> bool:
    """Return True if the row has `conversations`; null is an empty column of a table."""
    return row.get("conversations") is not None


def is_alpaca(row: dict[str, Any]) -> bool:
    """Return True if the row has `instruction` and `output`, even if null."""
    return "instruction" in row and "output" in row


def from_sharegpt(turns: list[Any], notes: list[Note]) -> list[Any]:
    """Convert the turns of a ShareGPT row into canonical messages.

    One observation with a JSON list that has a result for each of several calls becomes that many
    tool messages, since ShareGPT has only one turn for them. Turns that are no objects and unknown
    names stay.
    """
    messages: list[Any] = []
    n_calls = 0
    for place, turn in enumerate(turns):
        message = message_of_turn(turn, notes)
        is_message = isinstance(message, dict)
        if n_calls > 1 and is_message and message["role"] == "tool":
            is_only_result = place + 1 == len(turns) or not _is_result(turns[place + 1])
            messages.extend(_split_result(message, n_calls) if is_only_result else [message])
            n_calls = 0
            continue
        messages.append(message)
        calls = message.get("tool_calls") if is_message else None
        n_calls = len(calls) if isinstance(calls, list) else 0
    return messages


def from_alpaca(row: dict[str, Any]) -> list[Any]:
    """Convert an Alpaca row into two messages, the prompt and its completion.

    The prompt is the instruction and, if there is one, a blank line and the input. Contents that are
    empty or no text stay, so that the row rules find them.
    """
    prompt, addition = row["instruction"], row.get("input")
    if not is_blank(addition):
        if is_blank(prompt) or not isinstance(addition, str):
            prompt = addition
        elif isinstance(prompt, str):
            prompt = f"{prompt}\n\n{addition}"
    return [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": row["output"]},
    ]


def message_of_turn(turn: Any, notes: list[Note]) -> Any:
    """Convert one entry of `conversations`, from/value or role/content, into a message."""
    if type(turn) is not dict:
        return turn
    name = turn["from"] if turn.get("from") is not None else turn.get("role")
    value = _value_of_turn(turn, notes)
    role = SHAREGPT_ROLES.get(name, name) if isinstance(name, str) else name
    if len(turn) == 2 and type(value) is type(name) is str and name in SPEAKERS:
        return {"role": role, "content": value}
    if role == "function" and turn.get("from") is None:
        role = "tool"  # as in OpenAI's old format; from: function is a call in some datasets
        notes.append(Conversion.RESULT_ROLE)
    is_call = name in CALL_NAMES if isinstance(name, str) else False
    if len(turn) == 2 and not is_call:
        return _canonical({"role": role, "content": value}, role, value, notes)
    fields = {key: turn[key] for key in turn if key not in TURN_FIELDS and turn[key] is not None}
    if turn.get("from") is not None:
        for key in other_fields(fields):  # of messages they are kept, for chat templates
            if key not in TOOLS:
                note_other(key, fields.pop(key), notes)
    message = {"role": role, "content": value, **fields}
    if is_call:
        message |= {"content": None, "tool_calls": read_calls(value)}
        put_calls(message)
    return _canonical(message, role, message["content"], notes)


def _value_of_turn(turn: dict[str, Any], notes: list[Note]) -> Any:
    """Take the text of a turn, and note a second one that is another."""
    value, content = turn.get("value"), turn.get("content")
    if value is None or (is_blank(value) and not is_blank(content)):
        return content
    if not is_blank(content) and content != value:
        notes.append("messages[].content")
    return value


def _is_result(turn: Any) -> bool:
    name = (turn.get("from") or turn.get("role")) if isinstance(turn, dict) else None
    return isinstance(name, str) and SHAREGPT_ROLES.get(name) == "tool"


def _split_result(message: dict[str, Any], n_calls: int) -> list[Any]:
    """Split one observation that lists the results of several calls."""
    results = parse_if_json(message["content"])
    if not isinstance(results, list) or len(results) != n_calls:
        return [message]
    texts = [
        result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        for result in results
    ]
    return [{**message, "content": text} for text in texts]
