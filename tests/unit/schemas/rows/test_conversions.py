from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rows._conversions import (
    are_plain,
    canonical_message,
    canonical_messages,
    from_alpaca,
    from_sharegpt,
    is_alpaca,
    is_sharegpt,
    join_text_parts,
    message_of_turn,
)
from schemas.rows.message_fields import Note
from schemas.rows.row import Conversion
from schemas.rows.tool_calls import canonical_tools
from tests.support.messages import ANSWER, USER

WALL_CALL = {"type": "function", "function": {"name": "measure", "arguments": {"part": "wall"}}}
ROOF_CALL = {"type": "function", "function": {"name": "measure", "arguments": {"part": "roof"}}}
WALL_TEXT = '{"name": "measure", "arguments": {"part": "wall"}}'
ROOF_TEXT = '{"name": "measure", "arguments": {"part": "roof"}}'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("role", "content", "from", "value", "tool_calls", "function", "weight"),
                    *("loss", "train", "thinking", "reasoning_content", "images", "text", "type"),
                )
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def canonical(message: Any) -> Any:
    return canonical_message(message, [])


def of_sharegpt(row: dict[str, Any]) -> list[Any]:
    return from_sharegpt(row["conversations"], [])


def called(arguments: Any) -> Any:
    """Give the arguments that a call with these has in canonical form."""
    call = {"type": "function", "function": {"name": "measure", "arguments": arguments}}
    message = canonical({"role": "assistant", "content": None, "tool_calls": [call]})
    return message["tool_calls"][0]["function"]["arguments"]


def test_canonical_message_copies_no_plain_message() -> None:
    assert canonical(USER) is USER
    assert are_plain([USER, ANSWER])
    for other in (
        {**USER, "name": None},
        {"content": "Hi.", "role": "user"},
        {**USER, "content": None},
        {**USER, "role": "human"},
        {**USER, "role": ["user"]},
        "Hi.",
    ):
        assert not are_plain([USER, other])


def test_canonical_message_leaves_the_given_message_as_it_was() -> None:
    message = {"content": "Hi.", "role": "user", "name": None, "tool_calls": [{"name": "measure"}]}
    before = copy.deepcopy(message)
    canonical(message)
    assert message == before


def test_canonical_message_puts_role_and_content_first() -> None:
    found = canonical({"name": "Ada", "content": "Hi.", "role": "user"})
    assert list(found.items()) == [("role", "user"), ("content", "Hi."), ("name", "Ada")]
    assert list(canonical({"content": "Hi.", "role": "user"})) == ["role", "content"]


def test_canonical_message_leaves_null_fields_out_but_always_has_role_and_content() -> None:
    assert canonical({"role": "user", "content": None, "name": None}) == {
        "role": "user",
        "content": None,
    }
    assert canonical({}) == {"role": None, "content": None}


@pytest.mark.parametrize("value", ["and?", None, 3, ["a"]])
def test_canonical_message_passes_what_is_no_object(value: Any) -> None:
    assert canonical(value) is value


def test_join_text_parts_joins_texts_one_behind_the_other() -> None:
    parts = [{"type": "text", "text": "How tall "}, "is it", {"type": "text", "text": "?"}]
    assert join_text_parts(parts) == "How tall is it?"
    assert canonical({"role": "user", "content": parts})["content"] == "How tall is it?"


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": "How tall "}, {"text": "is it?"}],
        [{"type": "input_text", "text": "How tall is it?"}],
        [{"type": "output_text", "text": "How tall is it?", "annotations": []}],
        [{"type": None, "text": "How tall is it?", "image": None}],
        [{"text": "How tall is it?", "image": None}],
    ],
)
def test_join_text_parts_joins_the_parts_of_other_services(parts: list[Any]) -> None:
    assert join_text_parts(parts) == "How tall is it?"


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "a.png"}}],
        [{"type": "text"}],
        [{"text": "of something", "cite": "else"}],
        [{"type": "text", "value": "See"}],
        [{"type": "thinking", "text": "See"}],
        [{"type": "text", "text": 3}],
        [3],
        [],
        "a text",
        None,
    ],
)
def test_join_text_parts_leaves_any_other_content(content: Any) -> None:
    assert join_text_parts(content) is content


def test_canonical_message_reads_arguments_that_are_json_text() -> None:
    assert called('{"part": "wall", "storeys": 2}') == {"part": "wall", "storeys": 2}
    assert called({"part": "wall"}) == {"part": "wall"}


@pytest.mark.parametrize(
    "text",
    ["wall", '["wall"]', '{"part": }', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}'],
)
def test_canonical_message_leaves_arguments_that_cannot_be_read_exactly(text: str) -> None:
    assert called(text) == text


def test_canonical_message_drops_null_padding_of_calls_but_no_null_argument() -> None:
    call = {
        "id": None,
        "type": "function",
        "function": {"name": "measure", "arguments": {"part": None}, "strict": None},
    }
    found = canonical({"role": "assistant", "content": None, "tool_calls": [call]})
    assert found["tool_calls"] == [
        {"type": "function", "function": {"name": "measure", "arguments": {"part": None}}}
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_calls": [{"name": "measure", "arguments": {"part": "wall"}}]},
        {"tool_calls": [{"name": "measure", "parameters": {"part": "wall"}}]},
        {"tool_calls": f"[{WALL_TEXT}]"},
        {"function_call": {"name": "measure", "arguments": '{"part": "wall"}'}},
        {"function_call": {"name": "measure", "arguments": {"part": "wall"}}, "tool_calls": []},
    ],
)
def test_canonical_message_writes_calls_of_other_forms_as_tool_calls(
    fields: dict[str, Any],
) -> None:
    found = canonical({"role": "assistant", "content": None, **fields})
    assert found == {"role": "assistant", "content": None, "tool_calls": [WALL_CALL]}


def test_canonical_message_gives_a_call_without_arguments_an_empty_object() -> None:
    assert called(None) == {}


@pytest.mark.parametrize("calls", [None, [], ""])
def test_canonical_message_leaves_out_an_empty_list_of_calls(calls: Any) -> None:
    assert canonical({**ANSWER, "tool_calls": calls}) == ANSWER


@pytest.mark.parametrize("calls", ["[not json", [3], [{"function": "measure"}], 5])
def test_canonical_message_leaves_malformed_calls(calls: Any) -> None:
    assert canonical({**ANSWER, "tool_calls": calls})["tool_calls"] == calls


NOTED: list[tuple[dict[str, Any], dict[str, Any], list[Any]]] = [
    ({"role": "user", "content": [{"text": "Hi."}]}, {"role": "user", "content": "Hi."},
     [Conversion.TEXT_PARTS]),
    ({**ANSWER, "tool_calls": [{"name": "measure", "arguments": {"part": "wall"}}]},
     {**ANSWER, "tool_calls": [WALL_CALL]}, [Conversion.TOOL_CALLS]),
    ({**ANSWER, "function_call": {"name": "measure", "arguments": '{"part": "wall"}'}},
     {**ANSWER, "tool_calls": [WALL_CALL]}, [Conversion.TOOL_CALLS]),
    ({**ANSWER, "tool_calls": [WALL_CALL]}, {**ANSWER, "tool_calls": [WALL_CALL]}, []),
    ({"role": "function", "name": "measure", "content": "2"},
     {"role": "tool", "content": "2", "name": "measure"}, [Conversion.RESULT_ROLE]),
    ({"role": "tool_response", "content": "2"}, {"role": "tool", "content": "2"},
     [Conversion.RESULT_ROLE]),
    ({"role": "tool_call", "content": WALL_TEXT},
     {"role": "assistant", "content": None, "tool_calls": [WALL_CALL]}, [Conversion.TOOL_CALLS]),
    ({"role": "tool", "content": None}, {"role": "tool", "content": ""}, []),
    ({"from": "gpt", "value": "Two metres."}, ANSWER, [Conversion.SHAREGPT]),
    ({**USER, "weight": 0}, USER, []),
    ({**USER, "mood": "glad"}, {**USER, "mood": "glad"}, ["messages[].mood"]),
    ({"from": "gpt", "value": "Two metres.", "mood": "glad"}, ANSWER,
     [Conversion.SHAREGPT, "messages[].mood"]),
]  # fmt: skip


@pytest.mark.parametrize(("message", "expected", "notes"), NOTED)
def test_canonical_message_notes_what_it_converts_and_what_nothing_reads(
    message: dict[str, Any], expected: dict[str, Any], notes: list[Any]
) -> None:
    found: list[Any] = []
    assert canonical_message(message, found) == expected
    assert found == notes


def test_canonical_messages_joins_the_calls_of_one_turn() -> None:
    calls = [{"role": "tool_call", "content": text} for text in (WALL_TEXT, ROOF_TEXT)]
    results = [{"role": "tool_response", "content": text} for text in ("2", "5")]
    assert canonical_messages([USER, *calls, *results, ANSWER], []) == [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [WALL_CALL, ROOF_CALL]},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "5"},
        ANSWER,
    ]


@pytest.mark.parametrize("calls", [5, "measure", {"name": "measure"}])
def test_canonical_messages_joins_no_calls_to_malformed_ones(calls: Any) -> None:
    first = {"role": "assistant", "content": None, "tool_calls": calls}
    found = canonical_messages([first, {"role": "tool_call", "content": WALL_TEXT}], [])
    assert [message["role"] for message in found] == ["assistant", "assistant"]


def test_from_sharegpt_reads_the_result_of_an_old_function() -> None:
    turn = {"role": "function", "name": "measure", "content": "2"}
    expected = {"role": "tool", "content": "2", "name": "measure"}
    assert of_sharegpt({"conversations": [turn]}) == [expected]
    called = {"from": "function", "value": "2"}
    assert of_sharegpt({"conversations": [called]}) == [{"role": "function", "content": "2"}]


def test_is_sharegpt_asks_for_conversations() -> None:
    assert is_sharegpt({"conversations": []})
    assert not is_sharegpt({"conversations": None})
    assert not is_sharegpt({"messages": []})


def test_is_alpaca_asks_for_instruction_and_output() -> None:
    assert is_alpaca({"instruction": None, "output": "Blue."})
    assert not is_alpaca({"instruction": "Name a colour."})


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("human", "user"),
        ("user", "user"),
        ("gpt", "assistant"),
        ("assistant", "assistant"),
        ("chatgpt", "assistant"),
        ("bard", "assistant"),
        ("bing", "assistant"),
        ("model", "assistant"),
        ("system", "system"),
        ("observation", "tool"),
        ("tool", "tool"),
        ("function_response", "tool"),
        ("tool_response", "tool"),
        ("critic", "critic"),
        (None, None),
        (["human"], ["human"]),
    ],
)
def test_from_sharegpt_maps_names_and_keeps_unknown_ones(name: Any, role: Any) -> None:
    expected = [{"role": role, "content": "Hi."}]
    assert of_sharegpt({"conversations": [{"from": name, "value": "Hi."}]}) == expected
    assert of_sharegpt({"conversations": [{"role": name, "content": "Hi."}]}) == expected


def test_from_sharegpt_reads_a_function_call() -> None:
    turns = [
        {"from": "human", "value": "How tall is the wall?"},
        {"from": "function_call", "value": WALL_TEXT},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "Two metres."},
    ]
    assert of_sharegpt({"conversations": turns}) == [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [WALL_CALL]},
        {"role": "tool", "content": "2"},
        ANSWER,
    ]


def test_from_sharegpt_splits_the_one_observation_of_several_calls() -> None:
    turns = [
        {"from": "function_call", "value": f"[{WALL_TEXT}, {ROOF_TEXT}]"},
        {"from": "observation", "value": '["2 m", {"metres": 5}]'},
    ]
    assert of_sharegpt({"conversations": turns}) == [
        {"role": "assistant", "content": None, "tool_calls": [WALL_CALL, ROOF_CALL]},
        {"role": "tool", "content": "2 m"},
        {"role": "tool", "content": '{"metres": 5}'},
    ]


@pytest.mark.parametrize(
    "results",
    [["2 m and 5 m"], ['["2 m"]'], ['["2 m", "5 m"]', "5 m"]],
    ids=["no list", "too few", "one each"],
)
def test_from_sharegpt_splits_no_other_observation(results: list[str]) -> None:
    turns = [{"from": "function_call", "value": f"[{WALL_TEXT}, {ROOF_TEXT}]"}]
    turns += [{"from": "observation", "value": result} for result in results]
    found = of_sharegpt({"conversations": turns})[1:]
    assert found == [{"role": "tool", "content": result} for result in results]


def test_from_sharegpt_keeps_the_weight_of_a_turn() -> None:
    turn = {"from": "gpt", "value": "Two metres.", "weight": 0}
    assert of_sharegpt({"conversations": [turn]}) == [{**ANSWER, "weight": 0}]
    turn = {"from": "human", "value": "How tall is the wall?", "weight": 1}
    assert of_sharegpt({"conversations": [turn]}) == [{**USER, "weight": 1}]


@pytest.mark.parametrize("weight", [0, 0.0, None])
def test_from_sharegpt_drops_a_weight_that_says_what_holds_anyway(weight: Any) -> None:
    turn = {"from": "human", "value": "How tall is the wall?", "weight": weight}
    assert of_sharegpt({"conversations": [turn]}) == [USER]
    turn = {**USER, "weight": weight}
    assert of_sharegpt({"conversations": [turn]}) == [USER]


def test_from_sharegpt_drops_other_fields_of_from_value_turns_and_keeps_those_of_messages() -> None:
    turn = {"from": "gpt", "value": "Two metres.", "markdown": True}
    assert of_sharegpt({"conversations": [turn]}) == [ANSWER]
    turn = {**ANSWER, "from": None, "value": None, "name": "Ada"}
    assert of_sharegpt({"conversations": [turn]}) == [{**ANSWER, "name": "Ada"}]


def test_from_sharegpt_passes_turns_that_are_no_objects() -> None:
    assert of_sharegpt({"conversations": ["Hi.", None]}) == ["Hi.", None]


@pytest.mark.parametrize(
    ("instruction", "addition", "prompt"),
    [
        ("Name it.", "", "Name it."),
        ("Name it.", None, "Name it."),
        ("Name it.", "the sea", "Name it.\n\nthe sea"),
        ("", "the sea", "the sea"),
        (None, "the sea", "the sea"),
        (None, None, None),
        ("", " ", ""),
        (3, "", 3),
        (3, "the sea", 3),
        ("Name it.", 3, 3),
    ],
)
def test_from_alpaca_joins_instruction_and_input(
    instruction: Any, addition: Any, prompt: Any
) -> None:
    row = {"instruction": instruction, "input": addition, "output": "Blue."}
    assert from_alpaca(row) == [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": "Blue."},
    ]


@settings(max_examples=200, database=None, derandomize=True, deadline=None)
@given(JSON)
def test_conversions_take_any_json_and_are_stable(value: Any) -> None:
    before = copy.deepcopy(value)
    once = canonical(value)
    assert canonical(once) == once
    for message in of_sharegpt({"conversations": [value, value]}):
        assert canonical(message) == message
    from_alpaca({"instruction": value, "output": value, "input": value})
    canonical_tools(value)
    assert value == before


def test_part_with_a_picture_is_no_text() -> None:
    parts = [{"type": "text", "text": "What is it?", "image": "3.png"}]
    assert join_text_parts(parts) is parts
    assert join_text_parts([{"type": "text", "text": "What?", "image": None}]) == "What?"


def test_second_text_of_a_turn_is_read_or_noted() -> None:
    notes: list[Note] = []
    turn = {"from": "gpt", "value": "", "content": "Six feet."}
    assert message_of_turn(turn, notes) == {"role": "assistant", "content": "Six feet."}
    assert notes == []
    message_of_turn({"from": "gpt", "value": "Six feet.", "content": "Seven."}, notes)
    assert notes == ["messages[].content"]
