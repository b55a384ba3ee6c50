"""JSON Schema of the accepted row formats, for data producers: `sft-flow check --schema`."""

from __future__ import annotations

from typing import Any

from schemas.rows._conversions import CALL_NAMES, SHAREGPT_ROLES, TEXT_TYPES
from schemas.rows.row import ROLES

SCHEMA_ID = "urn:sft-flow:accepted-formats:1"
"""The number is increased when a row that was accepted no longer is."""
OPENING_ROLES = ("system", "developer")
TRAINED_TURNS = tuple(name for name, role in SHAREGPT_ROLES.items() if role == "assistant")

Schema = dict[str, Any]
NULL: Schema = {"type": "null"}
TEXT: Schema = {"type": "string", "pattern": r"\S"}
TEXT_OR_EMPTY: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
WEIGHT: Schema = {"enum": [0, 1, None], "description": "0: shown to the model, not trained."}
FLAG: Schema = {"enum": [0, 1, True, False, None], "description": "The same as weight."}
NO_FLAG: Schema = {"enum": [0, False, None]}
FLAGS = ("loss", "train", "training", "trainable")
PARAMETERS: Schema = {"type": ["object", "null"], "description": "JSON Schema of the arguments."}
QUESTION = "How tall is the wall?"
ANSWER = "Two metres."


def accepted_formats_schema() -> Schema:
    """Return a JSON Schema, Draft 2020-12, of the rows that `sft-flow check` accepts.

    It covers what can be checked on a single row without its template or tokenizer. Further
    columns are allowed; a null column counts as absent. The row rules check the order of turns,
    tool results and the content of texts.
    """
    rows = {
        "messages_row": _messages_row(),
        "prompt_completion_row": _prompt_completion_row(),
        "sharegpt_row": _sharegpt_row(),
        "alpaca_row": _alpaca_row(),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Rows accepted for supervised fine-tuning",
        "description": (
            "One row of training data: messages, prompt and completion, ShareGPT or Alpaca. "
            "Where a row has the fields of several formats the first in this order counts."
        ),
        "type": "object",
        "anyOf": [_ref(name) for name in rows],
        "$defs": {
            **rows,
            "message": _message(),
            "turn": _turn(),
            "content": _content(),
            "tools": _tools(),
            "tool": _wrapped_or_bare(_object(["name"], {"name": TEXT, "parameters": PARAMETERS})),
            "tool_calls": _array(_wrapped_or_bare(_ref("function")), minItems=1),
            "no_tool_calls": _any(NULL, {"type": "array", "maxItems": 0}),
            "function": _function(),
        },
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _any(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _object(required: list[str], properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


def _json_text(pattern: str, content: Schema) -> Schema:
    """Describe JSON stored as text, as Arrow tables need it where rows differ in their fields."""
    return {
        "type": "string",
        "pattern": pattern,
        "contentMediaType": "application/json",
        "contentSchema": content,
    }


def _list_of(item: str, speakers: tuple[str, ...]) -> Schema:
    """Describe a list of messages or turns; a system message is allowed only at its start."""
    later = {speaker: {"not": {"enum": list(OPENING_ROLES)}} for speaker in speakers}
    items = {"allOf": [_ref(item), {"properties": later}]}
    return _array(items, minItems=1, prefixItems=[_ref(item)])


def _trained(speakers: tuple[str, ...], names: tuple[str, ...]) -> Schema:
    return _any(*(_object([speaker], {speaker: {"enum": list(names)}}) for speaker in speakers))


def _messages_row() -> Schema:
    messages = {**_list_of("message", ("role",)), "contains": _trained(("role",), ("assistant",))}
    example = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    return {
        "title": "messages",
        **_object(["messages"], {"messages": messages, "tools": _ref("tools")}),
        "examples": [{"messages": example}],
    }


def _prompt_completion_row() -> Schema:
    completion = {**_list_of("message", ("role",)), "contains": _trained(("role",), ("assistant",))}
    del completion["prefixItems"]  # a system message belongs to the prompt
    columns = {
        "messages": NULL,
        "prompt": _any(TEXT, _list_of("message", ("role",))),
        "completion": _any(TEXT, completion),
        "tools": _ref("tools"),
    }
    return {
        "title": "prompt and completion, each a text or a list of messages",
        **_object(["prompt", "completion"], columns),
        "examples": [{"prompt": QUESTION, "completion": ANSWER}],
    }


def _sharegpt_row() -> Schema:
    turns = {
        **_list_of("turn", ("from", "role")),
        "contains": _trained(("from", "role"), TRAINED_TURNS),
    }
    columns = {
        "messages": NULL,
        "conversations": turns,
        "system": TEXT_OR_NULL,
        "tools": _ref("tools"),
    }
    human, model = {"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}
    return {
        "title": "ShareGPT",
        **_object(["conversations"], columns),
        "not": {"required": ["prompt", "completion"]},
        "examples": [{"conversations": [human, model]}],
    }


def _alpaca_row() -> Schema:
    pair = {"type": "array", "prefixItems": [TEXT, TEXT], "items": False, "minItems": 2}
    columns = {
        "messages": NULL,
        "conversations": NULL,
        "instruction": TEXT_OR_NULL,
        "input": TEXT_OR_NULL,
        "output": TEXT,
        "system": TEXT_OR_NULL,
        "history": {"type": ["array", "null"], "items": pair},
        "tools": _ref("tools"),
    }
    return {
        "title": "Alpaca",
        **_object(["instruction", "output"], columns),
        "not": {"required": ["prompt", "completion"]},
        "anyOf": [
            {"properties": {"instruction": TEXT}},
            {"required": ["input"], "properties": {"input": TEXT}},
        ],
        "examples": [{"instruction": QUESTION, "input": "", "output": ANSWER}],
    }


def _message() -> Schema:
    calls = _ref("tool_calls")
    says = {"required": ["content"], "properties": {"content": _ref("content")}}
    only_calls = {
        "required": ["tool_calls"],
        "properties": {"tool_calls": calls, "content": {"enum": [None, ""]}},
    }
    return {
        **_object(["role"], {"role": {"enum": list(ROLES)}}),
        "if": {"properties": {"role": {"const": "assistant"}}},
        "then": {
            "properties": {
                "weight": WEIGHT,
                "tool_calls": _any(calls, _ref("no_tool_calls")),
                **dict.fromkeys(FLAGS, FLAG),
            },
            "anyOf": [says, only_calls],
        },
        "else": {
            "required": ["content"],
            "properties": {
                "weight": {"enum": [0, None]},
                "tool_calls": _ref("no_tool_calls"),
                **dict.fromkeys(FLAGS, NO_FLAG),
            },
            "if": {"properties": {"role": {"const": "tool"}}},
            "then": {"properties": {"content": _any(_ref("content"), {"enum": ["", None]})}},
            "else": {
                "if": {"properties": {"role": {"const": "user"}}},
                "then": {"properties": {"content": _ref("content")}},
                "else": {"properties": {"content": _any(_ref("content"), TEXT_OR_EMPTY)}},
            },
        },
    }


def _turn() -> Schema:
    speaking = [name for name in SHAREGPT_ROLES if name not in CALL_NAMES]
    calls = _any(_ref("function"), _array(_ref("function"), minItems=1))
    called = _any(calls, _json_text(r"^\s*[\[{][\s\S]*[\]}]\s*$", calls))
    ways = []
    for speaker, said in (("from", "value"), ("role", "content")):
        plain = {
            speaker: {"enum": speaking},
            said: _ref("content"),
            "tool_calls": _ref("no_tool_calls"),
        }
        ways.append(_object([speaker, said], plain))
        ways.append(_object([speaker, said], {speaker: {"enum": list(CALL_NAMES)}, said: called}))
    return {
        "anyOf": ways,
        "if": _trained(("from", "role"), TRAINED_TURNS),
        "then": {"properties": {"weight": WEIGHT}},
        "else": {"properties": {"weight": {"enum": [0, None]}}},
    }


def _content() -> Schema:
    """Describe content: a text, or text parts of which at least one is not blank."""
    typed = _object(["type", "text"], {"type": {"enum": list(TEXT_TYPES)}, "text": TEXT_OR_EMPTY})
    bare = {**_object(["text"], {"text": TEXT_OR_EMPTY}), "maxProperties": 1}
    part = _any(typed, bare)
    contains = _any(TEXT, _object(["text"], {"text": TEXT}))
    items = _any({"type": "string"}, part)
    return _any(TEXT, _array(items, minItems=1, contains=contains))


def _tools() -> Schema:
    tools = _array(_ref("tool"))
    blank = {"type": "string", "pattern": r"^\s*$"}
    return _any(NULL, tools, blank, _json_text(r"^\s*\[[\s\S]*\]\s*$", tools))


def _wrapped_or_bare(function: Schema) -> Schema:
    """Describe a tool or call as OpenAI writes it, `{"type": "function", "function": …}`, or bare."""
    wrapped = _object(["function"], {"type": {"enum": ["function", None]}, "function": function})
    return _any(wrapped, {"allOf": [function], "not": {"required": ["function"]}})


def _function() -> Schema:
    arguments = {"type": "object"}
    return _object(
        ["name", "arguments"],
        {"name": TEXT, "arguments": _any(arguments, _json_text(r"^\s*\{[\s\S]*\}\s*$", arguments))},
    )
