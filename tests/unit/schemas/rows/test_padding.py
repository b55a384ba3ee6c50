from __future__ import annotations

import copy
from typing import Any

import pytest

from schemas.rows.padding import drop_padding
from schemas.rows.recognition import recognise
from schemas.rows.row import Conversation, Conversion, RowFormat, SourceRow


def tool(properties: dict[str, Any], **others: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, **others}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def conversation(tools: list[Any] | None, arguments: Any) -> Conversation:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Find it."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    return Conversation("a.jsonl", 1, RowFormat.MESSAGES, messages, tools=tools)


def arguments_of(found: Conversation) -> Any:
    return found.messages[1]["tool_calls"][0]["function"]["arguments"]


TEXT = {"type": "string"}
ITEMS = {"type": "array", "items": {"type": "object", "properties": {"a": TEXT}}}


@pytest.mark.parametrize(
    ("parameters", "given", "left"),
    [
        # what the tool does not name
        (tool({"city": TEXT}), {"city": "Oslo", "from": None}, {"city": "Oslo"}),
        (tool({}), {"from": None}, {}),
        ({"name": "f"}, {"from": None}, {}),
        (tool({"at": tool({})["function"]["parameters"]}), {"at": {"x": None}}, {"at": {}}),
        (tool({"all": ITEMS}), {"all": [{"a": "b", "c": None}]}, {"all": [{"a": "b"}]}),
        # what it names, may be left out and cannot be null
        (tool({"city": TEXT, "on": TEXT}), {"city": "Oslo", "on": None}, {"city": "Oslo"}),
        (tool({"on": {"enum": ["a"]}}), {"on": None}, {}),
    ],
)
def test_null_that_a_tool_has_no_room_for_is_dropped(
    parameters: Any, given: Any, left: Any
) -> None:
    found = conversation([parameters], given)
    before = copy.deepcopy(given)
    assert drop_padding(found)
    assert arguments_of(found) == left
    assert given == before
    assert not drop_padding(found)


@pytest.mark.parametrize(
    "parameters",
    [
        tool({"on": {"type": ["string", "null"]}}),
        tool({"on": {"enum": ["a", None]}}),
        tool({"on": {"type": "string", "nullable": True}}),
        tool({"on": {"anyOf": [TEXT, {"type": "null"}]}}),
        tool({"on": {}}),
        tool({"on": True}),
        tool({"on": TEXT}, required=["on"]),
        tool({}, additionalProperties=True),
        tool({}, patternProperties={"o.*": {}}),
        {"name": "f", "parameters": {"type": "object"}},
        {"name": "g", "parameters": {"type": "object", "properties": {}}},
        "not an object",
    ],
)
def test_null_that_a_tool_allows_or_requires_or_may_name_stays(parameters: Any) -> None:
    found = conversation([parameters], {"on": None})
    assert not drop_padding(found)
    assert arguments_of(found) == {"on": None}


@pytest.mark.parametrize("arguments", ["not JSON: null", None, [None], 3])
def test_arguments_of_another_type_stay(arguments: Any) -> None:
    found = conversation([tool({})], arguments)
    assert not drop_padding(found)
    assert arguments_of(found) == arguments


def test_null_of_a_row_without_tools_stays() -> None:
    assert not drop_padding(conversation(None, {"on": None}))


def test_nulls_of_a_tool_are_dropped_and_its_values_stay() -> None:
    padded = tool(
        {"city": {"type": "string", "enum": None, "default": None}, "from": None, "default": None},
        required=["city"],
    )
    found = conversation([padded], {"city": "Oslo"})
    assert drop_padding(found)
    assert found.tools == [tool({"city": TEXT}, required=["city"])]
    assert "from" in padded["function"]["parameters"]["properties"]
    values = tool(
        {
            "city": {"type": ["string", "null"], "default": None, "enum": ["a", None]},
            "to": {"const": None},
            "at": {"type": "object", "default": {"x": None}},
            "default": {"type": "string"},
        }
    )
    found = conversation([values], {"city": None})
    assert not drop_padding(found)
    assert found.tools == [values]


def test_nulls_within_lists_and_maps_of_a_schema_count_as_elsewhere() -> None:
    kept = tool(
        {
            "city": {"anyOf": [{"type": "null", "default": None}, TEXT]},
            "properties": {"const": None},
        }
    )
    found = conversation([kept], {"city": None})
    assert not drop_padding(found)
    padded = tool({"city": {"anyOf": [{"type": "string", "from": None}]}, "properties": TEXT})
    padded["function"]["parameters"]["properties"]["enum"] = None
    found = conversation([padded], {"city": "Oslo"})
    assert drop_padding(found)
    assert found.tools == [tool({"city": {"anyOf": [TEXT]}, "properties": TEXT})]


def test_number_that_the_library_cannot_write_is_no_reason_to_fail() -> None:
    found = conversation([tool({"n": {"default": 2**70}, "from": None})], {"n": 1})
    assert drop_padding(found)
    assert found.tools == [tool({"n": {"default": 2**70}})]


def test_padding_is_counted_as_a_conversion_and_the_row_as_read_stays() -> None:
    call = {"function": {"name": "f", "arguments": {"city": "Oslo", "from": None}}}
    row = {
        "conversations": [
            {"from": "human", "value": "Find it."},
            {"from": "gpt", "value": None, "tool_calls": [call]},
        ],
        "tools": [tool({"city": TEXT, "from": None})],
    }
    before = copy.deepcopy(row)
    found, _, violations = recognise(SourceRow("a.jsonl", 1, row))
    assert found is not None
    assert violations == []
    assert Conversion.PADDING in found.conversions
    assert list(found.conversions) == sorted(found.conversions)
    assert found.tools == [tool({"city": TEXT})]
    assert arguments_of(found) == {"city": "Oslo"}
    assert row == before
