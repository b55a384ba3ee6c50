"""Loss-free conversion into the canonical form: messages as chat templates read them.

Canonical: role and content first, no null fields, text parts joined to one text, tool calls as
`{"type": "function", "function": {"name": …, "arguments": {…}}}`. What cannot be converted without
loss stays unchanged, so that the row rules find it.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.rows.tool_calls import FUNCTION_CALL, parse_if_json, put_calls, read_calls

SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "model"), "assistant"),
    "system": "system",
    "developer": "developer",
    FUNCTION_CALL: "assistant",
    **dict.fromkeys(("observation", "tool", "function_response"), "tool"),
}
"""Speakers in ShareGPT files. Source: LLaMA-Factory 0.9 data/README.md, FastChat, Axolotl."""
TURN_FIELDS = frozenset(("from", "value", "role", "content"))


def canonical_message(message: Any) -> Any:
    """Convert a message into canonical form; any value that is not an object stays unchanged.

    Arguments of tool calls that OpenAI's format writes as JSON text become an object: templates
    print them with `tojson`, which would quote a text a second time. A message of role and content
    only is returned itself, without a copy.
    """
    if type(message) is not dict:
        return message
    if len(message) == 2:
        first, second = message
        if first == "role" and second == "content" and type(message["content"]) is not list:
            return message
    found = {"role": message.get("role"), "content": join_text_parts(message.get("content"))}
    for name, value in message.items():
        if value is not None and name not in found:
            found[name] = value
    if "tool_calls" in found or FUNCTION_CALL in found:
        put_calls(found)
    return found


def join_text_parts(content: Any) -> Any:
    """Concatenate text parts, as templates do; other content stays unchanged."""
    if type(content) is not list or not content:
        return content
    texts = []
    for part in content:
        text = part
        if isinstance(part, dict) and part.get("type") == "text":
            text = part.get("text")
        if not isinstance(text, str):
            return content
        texts.append(text)
    return "".join(texts)


def drop_nulls(value: Any) -> Any:
    """Drop the null fields of objects at every depth; nulls in lists stay.

    For rows of Arrow tables only, where every object of a column has the fields of all: there a null
    is padding. In JSON a null argument was written on purpose.
    """
    if isinstance(value, dict):
        return {name: drop_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [drop_nulls(item) for item in value]
    return value


def is_sharegpt(row: dict[str, Any]) -> bool:
    """Return True if the row has `conversations`; null is an empty column of a table."""
    return row.get("conversations") is not None


def is_alpaca(row: dict[str, Any]) -> bool:
    """Return True if the row has `instruction` and `output`, even if null."""
    return "instruction" in row and "output" in row


def from_sharegpt(row: dict[str, Any]) -> list[Any]:
    """Convert the turns of a ShareGPT row into canonical messages; `system` opens them unless blank.

    A weight of 0 on a turn that is not the assistant's (SlimOrca and OpenHermes write it) changes
    nothing and is dropped. One observation with a JSON list that has a result for each of several
    calls becomes that many tool messages, since ShareGPT has only one turn for them. Turns that are
    no objects and unknown names stay.
    """
    messages: list[Any] = _opening(row)
    n_calls = 0
    turns = row["conversations"]
    for place, turn in enumerate(turns):
        message = _message_of_turn(turn)
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
    """Convert an Alpaca row into messages; the last two are the prompt and its completion.

    The prompt is the instruction and, if there is one, a blank line and the input. `system` and
    `history` (a list of `[question, answer]`) are optional. Contents that are empty or no text stay,
    so that the row rules find them.
    """
    messages = _opening(row)
    history = parse_if_json(row.get("history"))
    if isinstance(history, list):
        for pair in history:
            if isinstance(pair, list):
                roles = ("user", "assistant") * ((len(pair) + 1) // 2)
                messages.extend(
                    {"role": role, "content": text} for role, text in zip(roles, pair, strict=False)
                )
            else:
                messages.append(canonical_message(pair))
    elif not _is_blank(history):
        messages.append({"role": "user", "content": history})
    prompt, addition = row["instruction"], row.get("input")
    if not _is_blank(addition):
        if _is_blank(prompt) or not isinstance(addition, str):
            prompt = addition
        elif isinstance(prompt, str):
            prompt = f"{prompt}\n\n{addition}"
    messages.append({"role": "user", "content": prompt})
    messages.append({"role": "assistant", "content": row["output"]})
    return messages


def _opening(row: dict[str, Any]) -> list[Any]:
    system = row.get("system")
    return [] if _is_blank(system) else [canonical_message({"role": "system", "content": system})]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _message_of_turn(turn: Any) -> Any:
    """Convert one entry of `conversations`, from/value or role/content, into a message."""
    if type(turn) is not dict:
        return turn
    name = turn["from"] if turn.get("from") is not None else turn.get("role")
    value = turn["value"] if turn.get("value") is not None else turn.get("content")
    role = SHAREGPT_ROLES.get(name, name) if isinstance(name, str) else name
    message = {"role": role, "content": value}
    if name == FUNCTION_CALL:
        message = {"role": role, "content": None, "tool_calls": read_calls(value)}
    if len(turn) > 2:
        if turn.get("from") is None:
            message.update((key, turn[key]) for key in turn if key not in TURN_FIELDS)
        weight = turn.get("weight")
        if role == "assistant" or isinstance(weight, bool) or weight != 0:
            message["weight"] = weight
        else:
            message.pop("weight", None)
    return canonical_message(message)


def _is_result(turn: Any) -> bool:
    message = _message_of_turn(turn)
    return isinstance(message, dict) and message["role"] == "tool"


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
