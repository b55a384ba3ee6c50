"""Nulls with which Arrow pads tools and the arguments of calls, in a row of any file type.

Arrow gives each object of a column the keys of all of them, so what was written from a table has tools with the
properties of every other tool, and calls with their arguments, as nulls. A template would render and train them.
"""

from __future__ import annotations

from typing import Any

import orjson

from schemas.rows.row import Conversation

NULL = b":null"
MAPS = frozenset(("properties", "$defs", "definitions", "patternProperties"))
"""Keywords of a schema whose keys are names."""
DATA = frozenset(("default", "const", "enum", "examples", "example"))
"""Keywords of a schema whose values are data."""
ON_PURPOSE = frozenset(("default", "const"))
"""Of these keywords null is a value; it is padding where others are null too."""
OPEN = frozenset(("patternProperties", "$ref", "allOf", "anyOf", "oneOf"))
"""A schema with one of these may name arguments elsewhere."""


def drop_padding(conversation: Conversation) -> bool:
    """Drop nulls from tools, and from calls those arguments that their tool cannot take as null.

    Those are arguments that the tool does not name, and optional ones whose type is not null. A null that the
    tool allows or requires stays, and so do all arguments of a row that lists no tools.

    Args:
        conversation: In canonical form; what changes is replaced, so the row it was read from stays as it is.

    Returns:
        Whether there were any.
    """
    tools = conversation.tools
    if not tools:
        return False
    is_padded = False
    if _has_null(tools):
        found = [_pruned_tool(tool) for tool in tools]
        is_padded = found != tools
        conversation.tools = found
    schemas: dict[str, Any] | None = None
    for place, message in enumerate(conversation.messages):
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if not isinstance(calls, list) or not _has_null(calls):
            continue
        schemas = _schemas(conversation.tools or []) if schemas is None else schemas
        pruned = [_pruned_call(call, schemas) for call in calls]
        if pruned != calls:
            conversation.messages[place] = {**message, "tool_calls": pruned}
            is_padded = True
    return is_padded


def _has_null(value: Any) -> bool:
    """Check at the speed of the library; what it cannot write is looked through."""
    try:
        return NULL in orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return True


def _pruned_tool(tool: Any) -> Any:
    found = _pruned_schema(tool, keeps=ON_PURPOSE)
    return tool if found == tool else _pruned_schema(tool, keeps=frozenset())


def _pruned_schema(value: Any, *, keeps: frozenset[str], is_map: bool = False) -> Any:
    """Drop the null keys of a schema, but for some; items of lists stay."""
    if isinstance(value, list):
        return [_pruned_schema(item, keeps=keeps) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, item in value.items():
        if item is None and (is_map or name not in keeps):
            continue
        is_data = name in DATA and not is_map
        is_inner_map = name in MAPS and not is_map
        found[name] = item if is_data else _pruned_schema(item, keeps=keeps, is_map=is_inner_map)
    return found


def _schemas(tools: list[Any]) -> dict[str, Any]:
    """List the parameters of each tool by its name."""
    found = {}
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found[function["name"]] = function.get("parameters") or {"properties": {}}
    return found


def _pruned_call(call: Any, schemas: dict[str, Any]) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(arguments, dict):
        return call
    name = function["name"] if isinstance(function.get("name"), str) else ""
    found = _pruned_value(arguments, schemas.get(name))
    return {**call, "function": {**function, "arguments": found}}


def _pruned_value(value: Any, schema: Any) -> Any:
    """Drop the nulls that the schema of the value has no room for."""
    if not isinstance(schema, dict):
        return value
    if isinstance(value, list):
        return [_pruned_value(item, schema.get("items")) for item in value]
    names = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(names, dict):
        return value
    is_open = bool(schema.get("additionalProperties")) or not OPEN.isdisjoint(schema)
    required = schema.get("required")
    kept = required if isinstance(required, list) else []
    return {
        name: _pruned_value(item, names.get(name))
        for name, item in value.items()
        if item is not None
        or name in kept
        or (_allows_null(names[name]) if name in names else is_open)
    }


def _allows_null(schema: Any) -> bool:
    """Check whether null may be valid; only what names its types or values rules it out."""
    if not isinstance(schema, dict) or schema.get("nullable") is True:
        return True
    kinds, values = schema.get("type"), schema.get("enum")
    if isinstance(kinds, str):
        kinds = [kinds]
    is_excluded = isinstance(kinds, list) and "null" not in kinds
    return not (is_excluded or (isinstance(values, list) and None not in values))
