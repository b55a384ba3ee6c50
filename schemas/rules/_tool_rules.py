"""Rules on tool calls, their results and weights: tool_call_invalid, tool_result_unmatched, weight_invalid.

They check several messages of a row together, so they do not use the flat message frame.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from schemas.rows.message_fields import NOT_TRAINED, loss_flags
from schemas.rows.tool_calls import exact_json, unread_fields
from schemas.rows.values import bare_name
from schemas.rule_ids import RowRule

Problem = tuple[RowRule, str]
MAX_DETAIL_CHARACTERS, MAX_NAME_CHARACTERS = 160, 40
CALL_IN_TEXT = re.compile(
    r"<[|｜]?/?(?:tool[_▁]calls?|function_?calls?|functions?=|invoke|python_tag)|\[TOOL_CALLS\]"
    r"|\"(?:name|function|tool|tool_name|action)\"\s*:|^\s*(?:Action|Tool|Function call)\s*:"
    r"|```(?:tool|json|python|bash|sh)|^\s*\[?[A-Za-z_][\w.]*\([^\n]*\)\]?\s*$",
    re.MULTILINE | re.IGNORECASE,
)
"""Without tool_calls, results that follow such a text have a call that waits for them."""
MAX_CACHED_TOOLS = 2048  # compiling takes a millisecond; xLAM's 60,000 rows share 3,600


@dataclass(frozen=True)
class _Tool:
    name: str = ""
    validator: Any = None
    """Of its arguments; None if the tool has no parameters."""
    problem: str = ""


def tool_problems(messages: list[Any], tools: list[Any] | None) -> list[Problem]:
    """Find what is wrong with the tool calls of a conversation and with their results.

    A row that calls tools and lists none is legal: the system message may describe its tools. A
    last message that only calls is legal: the model learns to call.

    Args:
        messages: In canonical form.
        tools: Definitions, either OpenAI's `{"type": "function", "function": {…}}` or the bare
            `{"name": …, "parameters": {…}}`; parameters are JSON Schema, by default Draft 2020-12.

    Returns:
        Rule and detail, in the order tools, calls, results.
    """
    problems: list[str] = []
    known: dict[str, _Tool] = {}
    if tools is not None and not isinstance(tools, list):
        problems.append("tools is not a list")
    elif tools:
        known = _known_tools(tools, problems)
    for number, message in enumerate(messages, 1):
        if isinstance(message, dict) and message.get("tool_calls") is not None:
            found = _call_problems(message, known if tools else None)
            problems.extend(f"message {number}: {problem}" for problem in found)
    return [
        *((RowRule.TOOL_CALL_INVALID, _cut(problem)) for problem in problems),
        *((RowRule.TOOL_RESULT_UNMATCHED, _cut(problem)) for problem in _result_problems(messages)),
    ]


def weight_problems(messages: list[Any]) -> list[Problem]:
    """Find weights that are neither 0 nor 1, or on a message that is never trained.

    `true` and `false` are no weights. Loss flags that were not converted count too. Source: OpenAI,
    FineTuneChatCompletionRequestAssistantMessage: `weight`, an integer, 0 or 1, on assistant messages.
    """
    problems: list[str] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            continue
        problem = _weight_problem(message)
        if problem:
            problems.append(f"message {number}: {problem}")
    return [(RowRule.WEIGHT_INVALID, problem) for problem in problems]


def _weight_problem(message: dict[str, Any]) -> str:
    names = [name for name in ("weight", *loss_flags(message)) if message.get(name) is not None]
    for name in names:
        value = message[name]
        kinds = (int, float) if name == "weight" else (int, float, bool)
        if type(value) not in kinds or value not in (0, 1):
            return f"{name} {_short(value)}"
    if names and message.get("role") != "assistant":
        return f"{names[0]} on {_short(message.get('role'))}"
    if len({(message[n] == 0) == (bare_name(n) in NOT_TRAINED) for n in names}) < 2:
        return ""
    return " and ".join(f"{n} {_short(message[n])}" for n in names) + " contradict each other"


def _known_tools(tools: list[Any], problems: list[str]) -> dict[str, _Tool]:
    """Read the definitions; report those that are malformed or contradict each other."""
    known: dict[str, _Tool] = {}
    for number, definition in enumerate(tools, 1):
        try:
            tool = _read_tool(json.dumps(definition, default=str))
        except RecursionError:
            tool = _Tool(problem="nested too deeply")
        if tool.problem:
            problems.append(f"tool {number}: {tool.problem}")
        if tool.name in known and known[tool.name] is not tool:
            problems.append(f"tool {number}: a second {_short(tool.name)}, defined otherwise")
        if tool.name:
            known.setdefault(tool.name, tool)
    return known


@lru_cache(maxsize=MAX_CACHED_TOOLS)
def _read_tool(definition_text: str) -> _Tool:
    """Read one definition and compile its schema; cached by content, since rows repeat their tools."""
    definition = json.loads(definition_text)
    if not isinstance(definition, dict):
        return _Tool(problem="not an object")
    is_wrapped = definition.get("function") is not None
    function = definition["function"] if is_wrapped else definition
    if not isinstance(function, dict):
        return _Tool(problem="function is not an object")
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        return _Tool(problem="no function name")
    parameters = function.get("parameters")
    if parameters is None:
        return _Tool(name)
    if not isinstance(parameters, dict):
        return _Tool(name, problem=f"parameters of {_short(name)} are not an object")
    validator, problem = _compile(parameters)
    if problem:
        problem = f"parameters of {_short(name)} are no JSON Schema: {problem}"
    return _Tool(name, validator, problem)


def _compile(parameters: dict[str, Any]) -> tuple[Any, str]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    try:
        kind = validator_for(parameters, default=Draft202012Validator)
        kind.check_schema(parameters)
        # With an empty registry a $ref of a row is never fetched from the network.
        return kind(parameters, registry=Registry()), ""
    except SchemaError as error:
        return None, _describe(error)
    except RecursionError:
        return None, "nested too deeply"
    # A schema in a row is foreign input to a library that recurses over it: whatever the library
    # raises, the schema cannot be used.
    except Exception as error:
        return None, type(error).__name__


def _call_problems(message: dict[str, Any], known: dict[str, _Tool] | None) -> list[str]:
    """List the problems of the calls of one message; `known` is None if no tools are listed."""
    calls = message["tool_calls"]
    if not isinstance(calls, list):
        return ["tool_calls is not a list"]
    if calls and message.get("role") != "assistant":
        return [f"{_short(message.get('role'))} calls a tool"]
    return [problem for call in calls if (problem := _call_problem(call, known))]


def _call_problem(call: Any, known: dict[str, _Tool] | None) -> str:
    if not isinstance(call, dict):
        return "a tool call is not an object"
    function = call.get("function", call)
    if not isinstance(function, dict):
        return "function of a tool call is not an object"
    name = function.get("name")
    arguments, problem = _read_arguments(function.get("arguments"))
    if problem:
        return f"arguments of {_short(name or 'a call')}: {problem}"
    if not isinstance(name, str) or not name.strip():
        return "a tool call without a function name"
    if "function" in call and (unread := unread_fields(function)):
        return f"arguments of {_short(name)}: missing, but it has {_short(unread)}"
    if known is None:
        return ""
    if name not in known:
        return f"unknown tool {_short(name)}"
    problem = _schema_problem(known[name].validator, arguments)
    return f"arguments of {_short(name)}: {problem}" if problem else ""


def _read_arguments(arguments: Any) -> tuple[dict[str, Any], str]:
    """Read arguments given as an object, as JSON text of one, or left out."""
    if arguments is None:
        return {}, ""
    if isinstance(arguments, str):
        try:
            arguments = exact_json(arguments)
        except json.JSONDecodeError:
            return {}, "not JSON"
        except ValueError as error:
            return {}, str(error)
    return (arguments, "") if isinstance(arguments, dict) else ({}, "not an object")


def _schema_problem(validator: Any, arguments: dict[str, Any]) -> str:
    if validator is None:
        return ""
    try:
        error = next(validator.iter_errors(arguments), None)
    # As in `_compile`: a reference to nothing, or to itself, fails only here.
    except Exception as error:
        return f"the tool's schema cannot be applied: {type(error).__name__}"
    return _describe(error) if error is not None else ""


def _describe(error: Any) -> str:
    """Report which part breaks which keyword; never its value, which may be private."""
    path = ".".join(str(step) for step in error.absolute_path)
    if error.validator == "required":
        missing = [str(name) for name in error.validator_value if name not in error.instance]
        return f"{path + ' lacks' if path else 'lack'} {', '.join(missing)}"
    if error.instance is None:
        return f"{path} is null"
    limit = json.dumps(error.validator_value, ensure_ascii=False, default=str)
    if len(limit) > MAX_NAME_CHARACTERS:
        limit = ""
    return f"{path or 'they'} {'breaks' if path else 'break'} {error.validator} {limit}".rstrip()


def _result_problems(messages: list[Any]) -> list[str]:
    """Match every tool message with a call of the assistant message before it."""
    problems: list[str] = []
    waiting: list[tuple[Any, Any]] = []
    caller, calls_in_text = 0, False
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            continue
        if message.get("role") == "tool":
            problem = "" if calls_in_text else _take_result(message, waiting)
            if problem:
                problems.append(f"message {number}: {problem}")
            continue
        if waiting:
            problems.append(f"message {caller}: {len(waiting)} of its calls got no result")
        caller, waiting = number, _calls_to_answer(message)
        calls_in_text = not waiting and _is_call_in_text(message)
    return problems


def _is_call_in_text(message: dict[str, Any]) -> bool:
    """Check whether an answer writes a call as text, in one of the forms that models do."""
    content = message.get("content")
    is_answer = message.get("role") == "assistant" and isinstance(content, str)
    return is_answer and CALL_IN_TEXT.search(str(content)) is not None


def _calls_to_answer(message: dict[str, Any]) -> list[tuple[Any, Any]]:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not isinstance(calls, list):
        return []
    found = []
    for call in calls:
        parts = call if isinstance(call, dict) else {}
        function = parts.get("function", parts)
        name = function.get("name") if isinstance(function, dict) else None
        found.append((parts.get("id"), name))
    return found


def _take_result(message: dict[str, Any], waiting: list[tuple[Any, Any]]) -> str:
    """Remove the call that a result answers from the list: by id, else by name, else in order."""
    if not waiting:
        return "a result, but no call is waiting for one"
    its_id, its_name = message.get("tool_call_id"), message.get("name")
    if its_id not in (None, ""):
        places = [place for place, (call_id, _) in enumerate(waiting) if call_id == its_id]
        if not places:
            return f"no call has id {_short(its_id)}"
    elif its_name not in (None, ""):
        places = [place for place, (_, name) in enumerate(waiting) if name in (its_name, None)]
        if not places:
            return f"no call of {_short(its_name)}"
    else:
        places = [0]
    del waiting[places[0]]
    return ""


def _short(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    is_long = len(text) > MAX_NAME_CHARACTERS
    return " ".join((text[: MAX_NAME_CHARACTERS - 1] + "…" if is_long else text).split())


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DETAIL_CHARACTERS else text[: MAX_DETAIL_CHARACTERS - 1] + "…"
