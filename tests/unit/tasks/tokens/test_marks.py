from __future__ import annotations

from typing import Any

from tasks.tokens._marks import LeafKind, mark_row, thought_parts

SCHEMA = {
    "type": "object",
    "properties": {
        "word": {"type": "string", "description": "What to find.", "enum": ["wall", "roof"]},
        "part": {"type": "object", "properties": {"page": {"type": "integer"}}},
    },
    "required": ["word"],
}


def wheres(kind: LeafKind, messages: list[dict[str, Any]], tools: list[Any] | None) -> list[str]:
    return [leaf.where for leaf in mark_row(messages, tools).leaves if leaf.kind is kind]


def test_texts_become_marks_and_structure_stays() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "a", "name": "Ann"},
        {"role": "assistant", "content": None, "weight": 1, "reasoning_content": " b "},
        {"role": "tool", "content": "", "tool_call_id": "x"},
    ]
    row = mark_row(messages, None)
    leaves = [(leaf.where, leaf.kind, leaf.value) for leaf in row.leaves if leaf.mark]
    assert leaves == [
        ("message 1: content", LeafKind.CONTENT, "a"),
        ("message 1: name", LeafKind.DETAIL, ""),
        ("message 2: reasoning_content", LeafKind.REASONING, "b"),
    ]
    assert row.messages[1] == {
        "role": "assistant", "content": None, "reasoning_content": "sftmark000004"
    }  # fmt: skip
    assert row.messages[2] == messages[2]


def test_calls_are_marked_down_to_their_values() -> None:
    arguments = {"word": "wall", "n": 2, "x": 0.5, "all": True, "none": None, "in": [{"y": "z"}]}
    function = {"name": "find", "arguments": arguments}
    calling = {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }
    row = mark_row([calling], None)
    [call] = row.messages[0]["tool_calls"]
    values = list(call["function"]["arguments"].values())
    assert [type(value) for value in values] == [str, int, float, bool, type(None), list]
    assert all(key.startswith("sftmark") for key in call["function"]["arguments"])
    assert (call["id"], values[3], values[4]) == ("1", True, None)
    assert len({leaf.mark for leaf in row.leaves}) == len(row.leaves)
    assert row.leaves[1].where == "message 1: tool_calls (find)"
    assert row.leaves[2].where == "message 1: tool_calls (find), argument word"


def test_result_that_names_a_called_tool_has_no_name_of_its_own() -> None:
    function = {"name": "find", "arguments": {}}
    calling = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    result = {"role": "tool", "name": "find", "content": "page 7"}
    assert "message 2: name" not in wheres(LeafKind.DETAIL, [calling, result], None)
    assert wheres(LeafKind.DETAIL, [{**result, "name": "seek"}], None) == ["message 1: name"]


def test_tools_need_names_and_parameters_and_describe_them() -> None:
    function = {"name": "find", "description": "Finds.", "parameters": SCHEMA}
    for tool in (function, {"type": "function", "function": function}):
        assert wheres(LeafKind.TOOL, [], [tool]) == [
            "tool 1 (find)",
            "tool 1 (find), parameter word",
            "tool 1 (find), parameter part",
        ]
        details = set(wheres(LeafKind.DETAIL, [], [tool]))
        assert details == {
            "tool 1 (find), its description",
            "tool 1 (find), parameter word, description",
            "tool 1 (find), parameter word, enum",
            "tool 1 (find), parameter part, parameter page",
        }
    row = mark_row([], [function])
    assert row.tools is not None
    parameters = row.tools[0]["parameters"]
    assert parameters["required"] == [next(iter(parameters["properties"]))]


def test_rows_of_one_shape_are_marked_alike() -> None:
    first, second = (
        mark_row([{"role": "user", "content": text}], [{"name": text, "parameters": {}}])
        for text in ("a", "something longer")
    )
    assert (first.messages, first.tools) == (second.messages, second.tools)


def test_thoughts_are_what_think_tags_enclose() -> None:
    assert list(thought_parts("a")) == [(False, "a")]
    assert list(thought_parts("<think>a</think>b")) == [
        (False, ""), (False, "<think>"), (True, "a"), (False, "</think>"), (False, "b"),
    ]  # fmt: skip
    assert next(thought_parts("a</think>b")) == (True, "a")
    answer = {"role": "assistant", "content": "<think>\na\n</think>\n\nb"}
    [message] = mark_row([answer], None).messages
    assert message["content"] == "<think>\nsftmark000001\n</think>\n\nsftmark000002"
    [message] = mark_row([{**answer, "role": "user"}], None).messages
    assert message["content"] == "sftmark000001"


def test_other_fields_of_a_tool_are_details() -> None:
    function = {
        "name": "find",
        "parameters": {},
        "returns": {"type": "object", "properties": {"page": {"description": "Its number."}}},
        "examples": ["find(wall)"],
        "strict": True,
        "required": None,
    }
    wrapped = {"type": "function", "function": function}
    for tool in (function, wrapped, {"type": "function", **function}):
        assert set(wheres(LeafKind.DETAIL, [], [tool])) == {
            "tool 1 (find), its returns, parameter page",
            "tool 1 (find), its returns, parameter page, description",
            "tool 1 (find), its examples",
        }
    assert mark_row([], [{"name": "find", "type": "function", "strict": False}]).leaves[1:] == []
