from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.rows.tool_calls import (
    canonical_tools,
    exact_json,
    parse_if_json,
    put_calls,
    read_calls,
    unread_fields,
)


def test_exact_json_says_why_a_text_is_refused() -> None:
    for text, reason in (
        ('{"a": 1, "a": 2}', "the same key twice"),
        ("[NaN]", "NaN is not JSON"),
        ("[1e999]", "a number out of range"),
        (f"[{2**64}]", "a number out of range"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 102 + "]" * 102, "nested too deeply"),
        ('["\\ud83d"]', "half of a surrogate pair"),
        ('{"\\udc00": 1}', "half of a surrogate pair"),
    ):
        with pytest.raises(ValueError, match=reason):
            exact_json(text)
    assert exact_json(f"[{2**64 - 1}, {-(2**63)}, 0.5]") == [2**64 - 1, -(2**63), 0.5]
    assert exact_json('["\\ud83d\\ude00"]') == ["😀"]
    assert exact_json("[" * 100 + "]" * 100)
    assert exact_json('["' + "[" * 200 + '"]') == ["[" * 200]


def test_canonical_tools_reads_lists_and_json_text() -> None:
    tool = {"name": "measure", "parameters": {"type": "object"}}
    text = json.dumps(tool)
    given: list[Any] = [[tool], tool, text, f"[{text}]", [text]]
    for value in given:
        assert canonical_tools(value) == [tool]
    empty: list[Any] = [None, [], "", "[]"]
    for nothing in empty:
        assert canonical_tools(nothing) is None
    assert canonical_tools("[broken") == "[broken"
    assert canonical_tools(3) == 3


@pytest.mark.parametrize("value", ["measure the wall", "[]", "[1]", '{"name": "measure", ', 3])
def test_read_calls_keeps_what_it_cannot_read_as_arguments_of_a_nameless_call(value: Any) -> None:
    assert read_calls(value) == [{"type": "function", "function": {"arguments": value}}]


def test_parse_if_json_reads_lists_and_objects_only() -> None:
    assert parse_if_json(' [1, {"a": 2}]') == [1, {"a": 2}]
    assert parse_if_json('{"a": 2}') == {"a": 2}
    for value in ("3", "null", "[1", "", None, 3, [1]):
        assert parse_if_json(value) is value


def test_put_calls_leaves_other_fields_and_writes_calls_last() -> None:
    call = {"type": "function", "function": {"name": "measure", "arguments": {}}}
    message = {"role": "assistant", "tool_calls": [call], "name": "Ada"}
    put_calls(message)
    assert list(message.items()) == [
        ("role", "assistant"),
        ("name", "Ada"),
        ("tool_calls", [call]),
    ]


def function_of(call: dict[str, Any]) -> Any:
    message = {"tool_calls": [call]}
    put_calls(message)
    return message["tool_calls"][0]["function"]


@pytest.mark.parametrize(
    "call",
    [
        {"name": "measure", "args": {"part": "wall"}, "id": "1", "type": "tool_call"},
        {"name": "measure", "input": {"part": "wall"}, "id": "1", "type": "tool_use"},
        {"function": {"name": "measure", "args": {"part": "wall"}}},
        {"type": "function", "function": {"name": "measure", "parameters": '{"part": "wall"}'}},
    ],
)
def test_arguments_of_a_call_are_found_under_other_names(call: dict[str, Any]) -> None:
    assert function_of(call) == {"name": "measure", "arguments": {"part": "wall"}}


def test_call_without_arguments_keeps_what_may_be_one() -> None:
    none = {"name": "measure", "arguments": {}}
    assert function_of({"function": {"name": "measure"}}) == none
    assert function_of({"function": {"name": "measure", "arguments": ""}}) == none
    other = {"name": "measure", "kwargs": {"part": "wall"}}
    assert function_of({"function": other}) == other
    assert unread_fields(other) == "kwargs"
    assert unread_fields(none) == ""
