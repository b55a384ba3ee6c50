"""Tool calls and tool definitions as chat templates read them, and the JSON text they come in."""

from __future__ import annotations

import json
import math
from typing import Any

from schemas.nesting import is_deep

FUNCTION_CALL = "function_call"
"""Field of OpenAI's old format, and the name of a turn in ShareGPT."""
NO_TOOLS = ("", "null", "none", "nan")
"""Texts that people and exports write where a row has no tools."""
SCHEMAS = ("input_schema", "inputSchema", "parametersJsonSchema")
"""Names of `parameters` in the formats of Anthropic, of MCP and Bedrock, and of Gemini."""
LISTS_OF_TOOLS = ("tools", "functionDeclarations", "function_declarations")
"""Fields of an object that only wraps a list of tools (Bedrock's toolConfig, Gemini's tools)."""
ARGUMENTS = ("arguments", "parameters", "args", "input")
"""Names of a call's arguments: OpenAI, Llama's own notation, LangChain, Anthropic."""
OF_A_FUNCTION = frozenset(("name", "description", "strict"))
"""Fields of a call's function that are no arguments."""
INTEGERS = range(-(2**63), 2**64)
"""Integers that orjson, Arrow and most JSON writers accept."""
MOST_LEVELS = 100
"""Nesting of JSON stored as text: with the row around it less than the 254 levels orjson writes."""


def exact_json(text: str) -> Any:
    """Parse JSON only if nothing is lost and the result can be written again.

    Args:
        text: JSON text.

    Returns:
        The parsed value.

    Raises:
        ValueError: It is not JSON, has a key twice, NaN, a number out of range or half of a
            surrogate pair, or is nested too deeply.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object_of_distinct_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_bounded_int,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if text.count("[") + text.count("{") > MOST_LEVELS and is_deep(value, MOST_LEVELS):
        raise ValueError("nested too deeply")
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("half of a surrogate pair") from error
    return value


def parse_if_json(value: Any) -> Any:
    """Parse a list or object stored as JSON text; any other value stays unchanged."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return exact_json(value)
    except ValueError:
        return value


def canonical_tools(value: Any) -> Any:
    """Read the tools column: a list, or JSON text of a list, of its items or of one tool.

    No tools are None: null, an empty list or object, a blank text, or JSON text of one of these.
    An unreadable value stays unchanged.
    """
    if isinstance(value, str) and value.strip().casefold() in NO_TOOLS:
        return None
    value = parse_if_json(value)
    if isinstance(value, dict):
        value = [value] if value else []
    if not isinstance(value, list):
        return value
    tools: list[Any] = []
    for tool in map(parse_if_json, value):
        inner = _listed_tools(tool) if isinstance(tool, dict) else None
        tools.extend([tool] if inner is None else inner)
    return tools or None


def _listed_tools(tool: dict[str, Any]) -> list[Any] | None:
    """Return the tools of an object that has nothing else but a list of them and a choice."""
    names = [name for name in LISTS_OF_TOOLS if isinstance(tool.get(name), list)]
    if len(names) != 1 or not tool.keys() <= {names[0], "toolChoice"}:
        return None
    return list(map(parse_if_json, tool[names[0]]))


def with_parameters(tools: list[Any]) -> list[Any]:
    """Write definitions of other formats with `parameters`; the same list if there are none."""
    rewritten = [_with_parameters(tool) if isinstance(tool, dict) else tool for tool in tools]
    return (
        tools if all(new is old for new, old in zip(rewritten, tools, strict=True)) else rewritten
    )


def _with_parameters(tool: dict[str, Any]) -> dict[str, Any]:
    """Unwrap Bedrock's toolSpec, and rename the schema of the arguments."""
    if isinstance(tool.get("toolSpec"), dict) and len(tool) == 1:
        return _with_parameters(tool["toolSpec"])
    if isinstance(tool.get("function"), dict):
        function = _with_parameters(tool["function"])
        return tool if function is tool["function"] else {**tool, "function": function}
    names = [name for name in SCHEMAS if isinstance(tool.get(name), dict)]
    if len(names) != 1 or tool.get("parameters") is not None:
        return tool
    schema = tool[names[0]]
    if schema.keys() == {"json"} and isinstance(schema["json"], dict):
        schema = schema["json"]
    renamed = {"parameters" if name == names[0] else name: value for name, value in tool.items()}
    return {**renamed, "parameters": schema}


def read_calls(value: Any) -> list[Any]:
    """Read the calls of a ShareGPT function_call turn: JSON text of one call or of a list of them.

    An unreadable value becomes one call without a name, with the text as arguments.
    """
    parsed = parse_if_json(value)
    calls = parsed if isinstance(parsed, list) else [parsed]
    if calls and all(isinstance(call, dict) for call in calls):
        return calls
    return [{"type": "function", "function": {"arguments": value}}]


def put_calls(message: dict[str, Any]) -> None:
    """Convert the tool calls of a message, in place; an empty list is the same as no field.

    `function_call` is the old name of a single call.
    """
    calls = parse_if_json(message.pop("tool_calls", None))
    if calls in (None, [], "") and isinstance(parse_if_json(message.get(FUNCTION_CALL)), dict):
        calls = [parse_if_json(message.pop(FUNCTION_CALL))]
    if isinstance(calls, list):
        calls = [_canonical_call(call) for call in calls]
    if calls not in (None, [], ""):
        message["tool_calls"] = calls


def _canonical_call(call: Any) -> Any:
    if not isinstance(call, dict):
        return call
    found = {name: value for name, value in call.items() if value is not None}
    if "function" not in found and "name" in found:
        names = [name for name in ("name", *ARGUMENTS) if name in found]
        function = {name: found.pop(name) for name in names}
        found.update(type="function", function=function)
    if isinstance(found.get("function"), dict):
        function = {name: value for name, value in found["function"].items() if value is not None}
        name = next((name for name in ARGUMENTS if name in function), None)
        if name:
            function["arguments"] = function.pop(name)
        elif function.keys() <= OF_A_FUNCTION:
            function["arguments"] = {}
        arguments = parse_if_json(function.get("arguments"))
        if isinstance(arguments, str) and not arguments.strip():
            arguments = {}  # as exports write a call without arguments
        if isinstance(arguments, dict):
            function["arguments"] = arguments
        found["function"] = function
    return found


def unread_fields(function: dict[str, Any]) -> str:
    """List the fields of a call's function that may be its arguments, if it has none."""
    return "" if "arguments" in function else ", ".join(sorted(function.keys() - OF_A_FUNCTION))


def _object_of_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the same key twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _bounded_int(text: str) -> int:
    number = int(text)
    if number not in INTEGERS:
        raise ValueError("a number out of range")
    return number
