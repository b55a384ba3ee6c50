"""Columns next to a conversation, each with its legal neighbour."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from schemas.rows.recognition import recognise
from schemas.rows.row import Conversation, Conversion, SourceRow
from schemas.rule_ids import RowRule
from tests.support.messages import ANSWER, SYSTEM, USER

TOOL = {"name": "measure", "parameters": {"type": "object"}}
EARLIER = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]
QUIET = {**ANSWER, "weight": 0}
CHAT: dict[str, Any] = {"messages": [USER, ANSWER]}
PAIR: dict[str, Any] = {"prompt": USER["content"], "completion": ANSWER["content"]}
SHAREGPT: dict[str, Any] = {
    "conversations": [
        {"from": "human", "value": USER["content"]},
        {"from": "gpt", "value": ANSWER["content"]},
    ]
}
ALPACA: dict[str, Any] = {"instruction": USER["content"], "input": "", "output": ANSWER["content"]}
FORMATS = pytest.mark.parametrize(
    "base", [CHAT, PAIR, SHAREGPT, ALPACA], ids=["messages", "pair", "sharegpt", "alpaca"]
)


def read(row: dict[str, Any]) -> Conversation:
    """Recognise a row that breaks no rule, and check that it was not changed."""
    before = copy.deepcopy(row)
    found, _, violations = recognise(SourceRow("a.jsonl", 1, row))
    assert violations == []
    assert found is not None
    assert row == before
    return found


def broken(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(str(v.rule), v.detail) for v in recognise(SourceRow("a.jsonl", 1, row))[2]]


def columns_of(rule: RowRule, row: dict[str, Any]) -> str:
    [(found, detail)] = broken(row)
    assert found == rule
    return detail


@FORMATS
@pytest.mark.parametrize("name", ["system", "system_prompt", "systemPrompt", "system_message"])
def test_system_prompt_in_a_column_opens_the_conversation(base: dict[str, Any], name: str) -> None:
    found = read({**base, name: "Be brief."})
    assert found.messages == [SYSTEM, USER, ANSWER]
    assert found.n_prompt_messages == (None if base in (CHAT, SHAREGPT) else 2)
    assert Conversion.SYSTEM in found.conversions
    assert (found.columns, found.unused_fields) == ({}, ())


@FORMATS
@pytest.mark.parametrize("blank", [None, "", " \n", []])
def test_blank_system_prompt_adds_nothing(base: dict[str, Any], blank: Any) -> None:
    found = read({**base, "system": blank})
    assert found.messages == [USER, ANSWER]
    assert Conversion.SYSTEM not in found.conversions
    assert found.unused_fields == ()


def test_system_prompt_of_text_parts_is_joined() -> None:
    found = read({**CHAT, "system": [{"text": "Be "}, {"text": "brief."}], "schemaVersion": "1"})
    assert found.messages[0] == SYSTEM
    assert set(found.conversions) == {Conversion.SYSTEM, Conversion.TEXT_PARTS}
    assert found.unused_fields == ("schemaVersion",)


def test_second_system_prompt_is_named_unless_it_is_the_same() -> None:
    row = {"messages": [SYSTEM, USER, ANSWER], "system": "Be kind."}
    found = columns_of(RowRule.SYSTEM_CONFLICT, row)
    assert found == 'system is "Be kind.", message 1 (system) is "Be brief."'
    assert read({**row, "system": " Be brief.\n"}).messages == [SYSTEM, USER, ANSWER]
    turns = [{"from": "system", "value": "Be brief."}, *SHAREGPT["conversations"]]
    assert columns_of(RowRule.SYSTEM_CONFLICT, {"conversations": turns, "system": "Be kind."})
    assert columns_of(
        RowRule.SYSTEM_CONFLICT, {**CHAT, "system": "Be kind.", "system_prompt": "Be brief."}
    )


@FORMATS
@pytest.mark.parametrize(
    "value",
    [
        {"role": "system", "content": "Be brief."},
        [{"role": "system", "content": "Be brief."}],
        {"content": [{"type": "text", "text": "Be brief."}]},
        {"parts": [{"text": "Be brief."}]},
        {"role": "user", "parts": {"text": "Be brief."}},
        '{"role": "system", "content": "Be brief."}',
    ],
)
def test_system_prompt_as_a_message_is_read(base: dict[str, Any], value: Any) -> None:
    assert read({**base, "system": value}).messages == [SYSTEM, USER, ANSWER]


def test_developer_column_keeps_its_role_unless_it_is_a_name() -> None:
    developer = {"role": "developer", "content": "Be brief."}
    for name, value in (
        ("developer", "Be brief."),
        ("developer_message", "Be brief."),
        ("system", developer),
        ("developer", {"role": "developer", "content": "Be brief."}),
    ):
        assert read({**CHAT, name: value}).messages == [developer, USER, ANSWER]
    assert read({**CHAT, "developer": "Sony Interactive Europe"}).unused_fields == ("developer",)
    assert read({**CHAT, "preamble": "Be brief."}).messages == [SYSTEM, USER, ANSWER]


def test_system_column_that_is_no_text_is_no_prompt() -> None:
    for value in ({"os": "linux"}, [SYSTEM, USER], {"role": "tool", "content": "a"}):
        assert "system is " in columns_of(RowRule.FIELD_NOT_USED, {**CHAT, "system": value})
    assert read({**CHAT, "system": 3}).unused_fields == ("system",)
    found, _, _ = recognise(SourceRow("a.jsonl", 1, {**SHAREGPT, "system": 3}))
    assert found is not None
    assert found.messages[0] == {"role": "system", "content": 3}  # content_not_text


@FORMATS
def test_history_comes_before_the_prompt(base: dict[str, Any]) -> None:
    for history in ([["Who?", "Ada."]], EARLIER):
        found = read({**base, "history": history, "system": "Be brief."})
        assert found.messages == [SYSTEM, *EARLIER, USER, ANSWER]
        assert found.n_prompt_messages == (4 if base is PAIR else None)
        assert {Conversion.HISTORY, Conversion.SYSTEM} <= set(found.conversions)
    assert read({**base, "history": json.dumps([["Who?", "Ada."]])}).messages[:2] == EARLIER


@FORMATS
@pytest.mark.parametrize("history", [None, [], "", "[]", "nan", "None"])
def test_no_history_adds_nothing(base: dict[str, Any], history: Any) -> None:
    found = read({**base, "history": history})
    assert found.messages == [USER, ANSWER]
    assert Conversion.HISTORY not in found.conversions


def test_history_that_is_in_the_messages_is_not_added_again() -> None:
    row = {"messages": [SYSTEM, *EARLIER, USER, ANSWER], "history": [["Who?", "Ada."]]}
    assert read(row).messages == row["messages"]


@pytest.mark.parametrize("history", ["User: Hi.", ["v1", "v2"], {"v1": 3}, [["a"]]])
def test_history_of_something_else_is_named(history: Any) -> None:
    detail = columns_of(RowRule.FIELD_NOT_USED, {**CHAT, "history": history})
    assert detail.endswith("not a list of pairs or messages")


@FORMATS
@pytest.mark.parametrize("name", ["chat_history", "conversationHistory", "previous_turns"])
def test_history_under_another_name_is_read(base: dict[str, Any], name: str) -> None:
    found = read({**base, name: [{"question": "Who?", "answer": "Ada."}]})
    assert found.messages == [*EARLIER, USER, ANSWER]
    assert columns_of(RowRule.FIELD_NOT_USED, {**base, name: "edited twice"})


def test_history_of_texts_that_the_messages_have_is_listed() -> None:
    row = {"messages": [*EARLIER, USER, ANSWER], "chat_history": ["Who?", "Ada."]}
    assert read(row).unused_fields == ("chat_history",)


@pytest.mark.parametrize(
    "blank", [None, "", "  ", "\n", "[]", " [] ", "null", "None", "nan", "NaN", [], {}]
)
@FORMATS
def test_blank_tools_are_no_tools(base: dict[str, Any], blank: Any) -> None:
    found = read({**base, "tools": blank})
    assert found.tools is None
    assert Conversion.JSON_TEXT not in found.conversions


def test_old_functions_are_tools() -> None:
    found = read({**CHAT, "functions": [TOOL]})
    assert (found.tools, found.conversions) == ([TOOL], (Conversion.TOOLS,))
    assert read({**CHAT, "functions": json.dumps([TOOL])}).tools == [TOOL]
    assert read({**CHAT, "functions": [TOOL], "tools": [TOOL]}).conversions == ()
    assert read({**CHAT, "functions": []}).unused_fields == ()
    assert read({**CHAT, "functions": "none of them"}).unused_fields == ("functions",)


def test_tools_of_the_system_message_are_those_of_the_row() -> None:
    found = read({"messages": [{**SYSTEM, "tools": [TOOL]}, USER, ANSWER]})
    assert found.messages == [SYSTEM, USER, ANSWER]
    assert (found.tools, found.unused_fields) == ([TOOL], ())
    assert found.conversions == (Conversion.TOOLS,)
    row = {"messages": [{**SYSTEM, "tools": [TOOL]}, USER, ANSWER], "tools": [{"name": "weigh"}]}
    assert "tools of a message" in columns_of(RowRule.FIELD_NOT_USED, row)
    assert read({**row, "tools": [TOOL]}).messages == [SYSTEM, USER, ANSWER]
    late = read({"messages": [SYSTEM, {**USER, "tools": [TOOL]}, ANSWER]})
    assert (late.tools, late.messages) == ([TOOL], [SYSTEM, USER, ANSWER])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("available_tools", [TOOL]),
        ("tool_definitions", json.dumps([TOOL])),
        ("function_declarations", [TOOL]),
        ("tools", [{"functionDeclarations": [TOOL]}]),
        ("tools", [{"name": "measure", "input_schema": {"type": "object"}}]),
        ("tools", [{"name": "measure", "inputSchema": {"type": "object"}}]),
        (
            "toolConfig",
            {
                "tools": [
                    {"toolSpec": {"name": "measure", "inputSchema": {"json": {"type": "object"}}}}
                ]
            },
        ),
    ],
)
def test_tools_of_other_formats_are_read(name: str, value: Any) -> None:
    assert read({**CHAT, name: value}).tools == [TOOL]


def test_schemas_of_tools_are_counted_where_they_are_renamed() -> None:
    tool = {"name": "measure", "input_schema": {"type": "object"}}
    assert read({**CHAT, "tools": [tool]}).conversions == (Conversion.TOOL_SCHEMAS,)
    assert read({**CHAT, "tools": [TOOL]}).conversions == ()
    wrapped = {"type": "function", "function": tool}
    assert read({**CHAT, "tools": [wrapped]}).tools == [{"type": "function", "function": TOOL}]
    assert read({**CHAT, "tools": [{**TOOL, "input_schema": {}}]}).conversions == ()


def test_names_of_tools_without_definitions_are_named() -> None:
    assert columns_of(RowRule.FIELD_NOT_USED, {**CHAT, "available_tools": ["search", "weigh"]})


@pytest.mark.parametrize("name", ["images", "image", "videos", "audios", "audio"])
@pytest.mark.parametrize("value", [["a.png"], [{"bytes": "aa", "path": None}], "clips/a.wav"])
@FORMATS
def test_media_is_named(base: dict[str, Any], value: Any, name: str) -> None:
    assert name in columns_of(RowRule.NEEDS_MEDIA, {**base, name: value})


@pytest.mark.parametrize("value", [None, [], "", [None], {"bytes": None, "path": None}, "[]", [""]])
@FORMATS
def test_empty_media_is_none(base: dict[str, Any], value: Any) -> None:
    assert read({**base, "images": value}).unused_fields == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "nginx:latest"),
        ("image", "https://example.com/soup.jpg"),
        ("images", 3),
        ("videos", [1, 2]),
        ("audio", False),
    ],
)
def test_column_about_media_is_only_listed(name: str, value: Any) -> None:
    assert read({**CHAT, name: value}).unused_fields == (name,)


@pytest.mark.parametrize("mark", ["<image>", "<video>", "<audio>", "<image_1>"])
def test_placeholder_is_named_where_there_is_a_media_column(mark: str) -> None:
    messages = [{"role": "user", "content": f"{mark} How tall?"}, ANSWER]
    assert read({"messages": messages}).messages == messages
    for value in ("nginx:latest", "https://example.com/a.jpg", ["a.png"]):
        row = {"messages": messages, "image": value}
        assert f"{mark} in the text" in columns_of(RowRule.NEEDS_MEDIA, row)
    row = {"messages": messages, "images": []}
    assert columns_of(RowRule.NEEDS_MEDIA, row) == f"{mark} in the text, and images is empty"


@FORMATS
@pytest.mark.parametrize(("name", "value"), [("label", False), ("label", "False"), ("kto_tag", 0)])
def test_answer_labelled_as_bad_is_named(base: dict[str, Any], name: str, value: Any) -> None:
    assert columns_of(RowRule.UNPAIRED_PREFERENCE, {**base, name: value}).startswith(name)


@pytest.mark.parametrize("label", [True, 0, 1, "spam", "0", None, 0.5, "falsehood"])
def test_other_labels_are_columns(label: Any) -> None:
    found = read({**PAIR, "label": label})
    assert found.unused_fields == (() if label is None else ("label",))


@pytest.mark.parametrize("answer", ["no", "false", "negative", "нет", "否"])
def test_label_of_an_answer_that_is_a_class_is_a_column(answer: str) -> None:
    row = {"prompt": "Is it tall?", "completion": answer, "label": False}
    assert read(row).unused_fields == ("label",)


def test_preference_row_is_nothing_else() -> None:
    turns = [{"from": "human", "value": "How?"}, {"from": "gpt", "value": "So."}]
    row = {"conversations": [*turns, turns[0]], "chosen": turns[1], "rejected": turns[1]}
    assert columns_of(RowRule.PREFERENCE_ROW, row)
    assert columns_of(
        RowRule.PREFERENCE_ROW, {**ALPACA, "output": "", "chosen": "a", "rejected": "b"}
    )
    mapped = {"prompt": row["conversations"], "completion": turns[1], "rejected": turns[1]}
    found = read(mapped)
    assert [message["role"] for message in found.messages] == ["user", "assistant"] * 2
    assert (found.n_prompt_messages, found.unused_fields) == (3, ("rejected",))
    assert found.conversions == (Conversion.SHAREGPT,)


def test_row_with_its_answer_is_trained_on_it() -> None:
    found = read({**CHAT, "chosen": [USER, ANSWER], "rejected": [USER, ANSWER], "score": 0.5})
    assert found.unused_fields == ("chosen", "rejected", "score")
    for name in ("rejected_response", "rejected_message"):
        detail = columns_of(RowRule.FIELD_NOT_USED, {**CHAT, name: "Tall."})
        assert detail == f"{name} is for preference training"


@FORMATS
@pytest.mark.parametrize("name", ["loss", "train", "trainable"])
def test_flag_of_a_row_is_that_of_its_answers(base: dict[str, Any], name: str) -> None:
    found = read({**base, name: False})
    assert found.messages == [USER, QUIET]
    assert Conversion.LOSS_FLAGS in found.conversions
    assert read({**base, name: True}).messages == [USER, ANSWER]
    assert read({**base, name: "train"}).columns == {name: "train"}
    assert read({**base, name: 0.73}).unused_fields == (name,)


def test_mask_has_a_value_for_each_message() -> None:
    row = {"messages": [*EARLIER, USER, ANSWER], "loss_mask": [0, 0, 0, 1], "system": "Be brief."}
    quiet = {**EARLIER[1], "weight": 0}
    assert read(row).messages == [SYSTEM, EARLIER[0], quiet, USER, ANSWER]
    detail = columns_of(RowRule.FIELD_NOT_USED, {**CHAT, "loss_mask": [0, 1, 1]})
    assert detail == "loss_mask with 3 values for 2 messages"


def test_reasoning_in_a_column_is_named_unless_it_is_a_setting() -> None:
    assert "reasoning" in columns_of(RowRule.FIELD_NOT_USED, {**PAIR, "reasoning": "It is so."})
    assert read({**PAIR, "reasoning": "high"}).unused_fields == ("reasoning",)
    assert read({**PAIR, "thinking": True}).unused_fields == ("thinking",)


@pytest.mark.parametrize(
    ("name", "value"), [("enable_thinking", False), ("reasoning_effort", "low")]
)
def test_setting_of_the_template_in_a_column_is_named(name: str, value: Any) -> None:
    assert columns_of(RowRule.FIELD_NOT_USED, {**CHAT, name: value}) == f"{name} of a row"


def test_settings_of_the_template_are_named_unless_empty() -> None:
    row = {**CHAT, "chat_template_kwargs": {"enable_thinking": False}}
    assert columns_of(RowRule.FIELD_NOT_USED, row) == "chat_template_kwargs of a row"
    assert read({**CHAT, "chat_template_kwargs": {}}).unused_fields == ()


@FORMATS
def test_every_other_column_with_a_value_is_listed(base: dict[str, Any]) -> None:
    row = {**base, "id": 0, "meta": {"a": 1}, "tags": [], "note": "", "nothing": None, "ok": False}
    found = read(row)
    assert found.unused_fields == ("id", "meta", "ok")
    assert found.columns == {"id": 0, "note": "", "ok": False}
    assert read({**base, "tool_choice": "auto", "parallel_tool_calls": False}).unused_fields == (
        "parallel_tool_calls",
        "tool_choice",
    )


def test_fields_of_messages_are_listed_once_a_row() -> None:
    messages = [{**USER, "id": 1}, {**ANSWER, "id": 2, "mood": "glad"}]
    assert read({"messages": messages}).unused_fields == ("messages[].id", "messages[].mood")
    assert read({"messages": messages, "id": 7}).unused_fields == (
        "id",
        "messages[].id",
        "messages[].mood",
    )


def test_blank_prompt_is_found_behind_a_system_prompt() -> None:
    row = {"prompt": " ", "completion": "Two metres.", "system": "Be brief."}
    found, blank, [violation] = recognise(SourceRow("a.jsonl", 1, row))
    assert found is not None
    assert (blank, violation.rule) == ({1}, RowRule.PROMPT_EMPTY)


def test_tools_of_a_turn_become_those_of_the_row() -> None:
    turns = [
        {"from": "system", "value": "Be brief.", "tools": json.dumps([TOOL])},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hi"},
    ]
    found = read({"conversations": turns})
    assert found.tools == [TOOL]
    assert (found.messages[0], found.unused_fields) == (SYSTEM, ())


def test_functions_next_to_other_tools_are_named() -> None:
    row = {**CHAT, "tools": [TOOL], "functions": [{"name": "weigh", "parameters": {}}]}
    assert columns_of(RowRule.FIELD_NOT_USED, row) == "functions differs from tools"
