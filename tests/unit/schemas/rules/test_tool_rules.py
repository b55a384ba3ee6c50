from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rule_ids import RowRule
from schemas.rules._tool_rules import tool_problems, weight_problems
from tests.support.messages import ANSWER, USER

RESULT = {"role": "tool", "content": "2"}
PARAMETERS = {
    "type": "object",
    "properties": {
        "part": {"type": "string", "enum": ["wall", "roof"]},
        "storeys": {"type": "integer"},
    },
    "required": ["part"],
    "additionalProperties": False,
}
MEASURE = {"name": "measure", "description": "Measure a part.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": MEASURE}]


def call(arguments: Any = None, *, name: Any = "measure", id_: Any = None) -> dict[str, Any]:
    """Make a tool call, of the wall unless told otherwise."""
    function = {"name": name, "arguments": {"part": "wall"} if arguments is None else arguments}
    made = {"type": "function", "function": function}
    return made if id_ is None else {"id": id_, **made}


def calling(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(id_: str) -> dict[str, Any]:
    return {**RESULT, "tool_call_id": id_}


def invalid(messages: list[Any], tools: list[Any] | None) -> list[str]:
    """Say what tool_call_invalid says, and that no other rule is broken."""
    problems = tool_problems(messages, tools)
    assert {rule for rule, _ in problems} <= {RowRule.TOOL_CALL_INVALID}
    return [detail for _, detail in problems]


def says(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def unmatched(*messages: Any) -> list[str]:
    """Say what tool_result_unmatched says, and that no other rule is broken."""
    problems = tool_problems(list(messages), None)
    assert {rule for rule, _ in problems} <= {RowRule.TOOL_RESULT_UNMATCHED}
    return [detail for _, detail in problems]


@pytest.mark.parametrize("tools", [TOOLS, [MEASURE], None, []])
@pytest.mark.parametrize(
    "arguments", [{"part": "wall"}, {"part": "roof", "storeys": 2}, '{"part": "wall"}']
)
def test_tool_problems_finds_none_in_a_legal_call(tools: Any, arguments: Any) -> None:
    assert tool_problems([USER, calling(call(arguments)), RESULT, ANSWER], tools) == []


@pytest.mark.parametrize(
    ("calls", "detail"),
    [
        ("measure", "message 2: tool_calls is not a list"),
        (["measure"], "message 2: a tool call is not an object"),
        (
            [{"type": "function", "function": "measure"}],
            "message 2: function of a tool call is not an object",
        ),
        ([call(name=None)], "message 2: a tool call without a function name"),
        ([call(name=" ")], "message 2: a tool call without a function name"),
        ([call(name=3)], "message 2: a tool call without a function name"),
        ([{"type": "function"}], "message 2: a tool call without a function name"),
        ([call("part: wall")], "message 2: arguments of measure: not JSON"),
        ([call("")], "message 2: arguments of measure: not JSON"),
        ([call("wall", name=None)], "message 2: arguments of a call: not JSON"),
        ([call('["wall"]')], "message 2: arguments of measure: not an object"),
        ([call(["wall"])], "message 2: arguments of measure: not an object"),
        ([call('{"a": 1, "a": 2}')], "message 2: arguments of measure: the same key twice"),
        ([call('{"a": NaN}')], "message 2: arguments of measure: NaN is not JSON"),
    ],
)
def test_tool_problems_names_a_malformed_call(calls: Any, detail: str) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    assert invalid([USER, message], None) == [detail]


def test_tool_problems_takes_a_call_without_arguments_for_one_with_none() -> None:
    message = calling({"function": {"name": "measure"}})
    assert tool_problems([USER, message], None) == []
    assert invalid([USER, message], TOOLS) == ["message 2: arguments of measure: lack part"]


def test_tool_problems_names_a_call_by_another_than_the_assistant() -> None:
    assert invalid([{**USER, "tool_calls": [call()]}], None) == ["message 1: user calls a tool"]


def test_tool_problems_names_an_unknown_tool_only_where_tools_are_listed() -> None:
    messages = [USER, calling(call(name="weigh"))]
    assert invalid(messages, TOOLS) == ["message 2: unknown tool weigh"]
    assert invalid(messages, None) == []


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ({}, "lack part"),
        ({"part": "wall", "storeys": "two"}, 'storeys breaks type "integer"'),
        ({"part": "door"}, 'part breaks enum ["wall", "roof"]'),
        ({"part": "wall", "colour": "red"}, "they break additionalProperties false"),
    ],
)
def test_tool_problems_says_where_arguments_break_the_schema(arguments: Any, detail: str) -> None:
    expected = [f"message 1: arguments of measure: {detail}"]
    assert invalid([calling(call(arguments))], TOOLS) == expected
    assert invalid([calling(call(json.dumps(arguments)))], TOOLS) == expected


def test_tool_problems_never_shows_the_value_of_an_argument() -> None:
    found = invalid([calling(call({"part": "4111 1111 1111 1111"}))], TOOLS)
    assert "4111" not in found[0]


@pytest.mark.parametrize(
    ("tool", "detail"),
    [
        ("measure", "tool 1: not an object"),
        ({}, "tool 1: no function name"),
        ({"type": "function", "function": 3}, "tool 1: function is not an object"),
        ({"name": ""}, "tool 1: no function name"),
        ({"name": "ask", "parameters": "{}"}, "tool 1: parameters of ask are not an object"),
        (
            {"name": "ask", "parameters": {"type": "dict"}},
            "tool 1: parameters of ask are no JSON Schema: type breaks anyOf",
        ),
        (
            {"name": "ask", "parameters": {"properties": {"a": {"pattern": "("}}}},
            'tool 1: parameters of ask are no JSON Schema: properties.a.pattern breaks format "regex"',
        ),
    ],
)
def test_tool_problems_names_a_malformed_definition(tool: Any, detail: str) -> None:
    assert invalid([USER, ANSWER], [tool]) == [detail]


def test_tool_problems_names_tools_that_are_no_list() -> None:
    tools: Any = "measure"
    assert invalid([USER, ANSWER], tools) == ["tools is not a list"]


def test_tool_problems_names_two_tools_of_one_name_only_if_they_differ() -> None:
    other = {"name": "measure"}
    assert invalid([USER, ANSWER], [MEASURE, MEASURE]) == []
    assert invalid([USER, ANSWER], [MEASURE, other]) == [
        "tool 2: a second measure, defined otherwise"
    ]


@pytest.mark.parametrize(
    "reference", ["https://example.com/part.json", "#/$defs/none", "#", "#/default"]
)
def test_tool_problems_names_a_schema_that_cannot_be_applied(reference: str) -> None:
    """A reference to the network is not followed; sockets are blocked here."""
    parameters = {"$ref": reference, "default": "a text"}
    found = invalid([calling(call())], [{"name": "measure", "parameters": parameters}])
    assert len(found) == 1
    assert "the tool's schema cannot be applied" in found[0]


def test_tool_problems_survives_a_schema_nested_too_deeply() -> None:
    parameters: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        parameters = {"items": parameters}
    found = invalid([calling(call())], [{"name": "measure", "parameters": parameters}])
    assert len(found) <= 1
    for _ in range(3000):
        parameters = {"items": parameters}
    (problem,) = invalid([USER, ANSWER], [{"name": "measure", "parameters": parameters}])
    assert problem.startswith("tool 1: ")
    assert problem.endswith("nested too deeply")


def test_tool_problems_reads_the_draft_a_schema_names() -> None:
    parameters = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"parts": {"items": [{"type": "string"}]}},
    }
    tools = [{"name": "measure", "parameters": parameters}]
    assert invalid([calling(call({"parts": ["wall"]}))], tools) == []
    assert invalid([calling(call({"parts": [1]}))], tools) == [
        'message 1: arguments of measure: parts.0 breaks type "string"'
    ]


def test_tool_problems_keeps_details_short() -> None:
    (detail,) = invalid([calling(call(name="x" * 500))], TOOLS)
    assert len(detail) < 80
    deep = {"a" * 300: {"type": "integer"}}
    tools = [{"name": "measure", "parameters": {"properties": deep}}]
    (detail,) = invalid([calling(call({"a" * 300: "b"}))], tools)
    assert len(detail) == 160


LEGAL_RESULTS = [
    [USER, calling(call()), RESULT, ANSWER],
    [USER, calling(call(id_="x1")), result("x1"), ANSWER],
    [USER, calling(call(id_="x1")), RESULT, ANSWER],
    [USER, calling(call(id_="x1"), call(id_="x2")), result("x2"), result("x1"), ANSWER],
    [USER, calling(call()), RESULT, calling(call()), RESULT, ANSWER],
    [USER, calling(call(), call(name="ask")), {**RESULT, "name": "ask"}, RESULT, ANSWER],
    [USER, calling(call())],
    [USER, ANSWER],
    # Calls that are written as text have no id to match.
    [USER, says('<tool_call>{"name": "ask"}</tool_call>'), RESULT, RESULT, ANSWER],
    [USER, says("I look it up.\nAction: find[wall]"), RESULT, ANSWER],
    [USER, says("[find(word='wall')]"), RESULT, ANSWER],
    [USER, says('```json\n{"name": "ask"}\n```'), RESULT, ANSWER],
]


@pytest.mark.parametrize("messages", LEGAL_RESULTS)
def test_tool_problems_matches_results_with_calls(messages: list[Any]) -> None:
    assert unmatched(*messages) == []


def test_tool_problems_names_a_result_without_a_call() -> None:
    detail = "a result, but no call is waiting for one"
    assert unmatched(USER, RESULT, ANSWER) == [f"message 2: {detail}"]
    assert unmatched(RESULT) == [f"message 1: {detail}"]
    assert unmatched(USER, calling(call()), RESULT, RESULT, ANSWER) == [f"message 4: {detail}"]
    assert unmatched(USER, calling(call()), RESULT, ANSWER, RESULT) == [f"message 5: {detail}"]


def test_tool_problems_names_an_id_that_no_call_has() -> None:
    assert unmatched(USER, calling(call(id_="x1")), result("x2"), ANSWER) == [
        "message 3: no call has id x2",
        "message 2: 1 of its calls got no result",
    ]
    assert unmatched(USER, calling(call()), result("x2"))[0] == "message 3: no call has id x2"


def test_tool_problems_names_a_result_of_a_tool_that_was_not_called() -> None:
    other = {**RESULT, "name": "ask"}
    assert unmatched(USER, calling(call()), other) == ["message 3: no call of ask"]


def test_tool_problems_names_calls_that_got_no_result() -> None:
    detail = "message 2: 1 of its calls got no result"
    assert unmatched(USER, calling(call()), USER, ANSWER) == [detail]
    assert unmatched(USER, calling(call()), ANSWER) == [detail]
    assert unmatched(USER, calling(call(), call()), RESULT, ANSWER) == [detail]


def test_tool_problems_passes_over_messages_that_are_no_objects() -> None:
    assert tool_problems([USER, "and?", None, ANSWER], None) == []


@pytest.mark.parametrize("weight", [0, 1, 0.0, 1.0, None])
def test_weight_problems_finds_none_in_weights_of_the_assistant(weight: Any) -> None:
    assert weight_problems([USER, {**ANSWER, "weight": weight}, "and?"]) == []


@pytest.mark.parametrize(
    ("weight", "shown"),
    [
        (0.5, "0.5"),
        (2, "2"),
        (-1, "-1"),
        ("1", "1"),
        (True, "true"),
        (False, "false"),
        ([1], "a list"),
        ({}, "an object"),
    ],
)
def test_weight_problems_names_any_other_weight(weight: Any, shown: str) -> None:
    assert weight_problems([USER, {**ANSWER, "weight": weight}]) == [
        (RowRule.WEIGHT_INVALID, f"message 2: weight {shown}")
    ]


@pytest.mark.parametrize("weight", [0, 1])
def test_weight_problems_names_a_weight_where_nothing_is_trained(weight: int) -> None:
    found = weight_problems([{**USER, "weight": weight}, {**ANSWER, "weight": weight}])
    assert found == [(RowRule.WEIGHT_INVALID, "message 1: weight on user")]


def test_weight_problems_names_flags_that_contradict_the_weight() -> None:
    found = weight_problems([USER, {**ANSWER, "weight": 1, "masked": True}])
    detail = "message 2: weight 1 and masked true contradict each other"
    assert found == [(RowRule.WEIGHT_INVALID, detail)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=150, database=None, derandomize=True, deadline=None)
@given(JSON, JSON, JSON, JSON)
def test_tool_problems_takes_any_json(first: Any, second: Any, third: Any, fourth: Any) -> None:
    messages = [
        calling(call(first, name=second, id_=third), first),
        {"role": "tool", "content": "2", "tool_call_id": third, "name": second},
        {"role": "assistant", "tool_calls": first, "weight": fourth},
        second,
    ]
    tools = [first, {"name": "measure", "parameters": fourth}, {"function": third}]
    for rule, detail in (*tool_problems(messages, tools), *weight_problems(messages)):
        assert rule in RowRule
        assert 0 < len(detail) <= 160


def test_null_that_breaks_a_schema_is_named() -> None:
    parameters = {"type": "object", "properties": {"on": {"type": "string"}}, "required": ["on"]}
    call = {"function": {"name": "f", "arguments": {"on": None}}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    found = tool_problems(messages, [{"name": "f", "parameters": parameters}])
    assert found == [(RowRule.TOOL_CALL_INVALID, "message 1: arguments of f: on is null")]
