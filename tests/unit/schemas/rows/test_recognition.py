from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.rows.recognition import (
    CANONICAL,
    MARKS,
    USED_FIELDS,
    Recognised,
    as_list,
    as_messages,
    recognise,
)
from schemas.rows.row import Conversation, Conversion, RowFormat, SourceRow, is_stored
from schemas.rule_ids import RowRule
from tests.support.messages import ANSWER, SYSTEM

USER = {"role": "user", "content": "How tall?"}
TOOL = {"type": "function", "function": {"name": "measure"}}


def read(row: Any) -> Recognised:
    return recognise(SourceRow("a.jsonl", 7, row))


def conversation(row: Any) -> Conversation:
    found, _, violations = read(row)
    assert violations == []
    assert found is not None
    return found


def broken(row: Any) -> list[tuple[str, str]]:
    return [(str(violation.rule), violation.detail) for violation in read(row)[2]]


@pytest.mark.parametrize(
    ("row", "row_format", "n_prompt_messages", "conversions"),
    [
        ({"messages": [USER, ANSWER]}, RowFormat.MESSAGES, None, ()),
        ({"messages": [USER, ANSWER], "tools": None}, RowFormat.MESSAGES, None, ()),
        (
            {"prompt": "How tall?", "completion": "Two metres."},
            RowFormat.PROMPT_COMPLETION,
            1,
            (),
        ),
        ({"prompt": [USER], "completion": [ANSWER]}, RowFormat.PROMPT_COMPLETION, 1, ()),
        ({"prompt": "How tall?", "completion": [ANSWER]}, RowFormat.PROMPT_COMPLETION, 1, ()),
        (
            {
                "conversations": [
                    {"from": "human", "value": "How tall?"},
                    {"from": "gpt", "value": "Two metres."},
                ]
            },
            RowFormat.SHAREGPT,
            None,
            (Conversion.SHAREGPT,),
        ),
        (
            {"instruction": "How tall?", "input": "", "output": "Two metres."},
            RowFormat.ALPACA,
            1,
            (Conversion.ALPACA,),
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "How tall?"}]},
                    ANSWER,
                ]
            },
            RowFormat.MESSAGES,
            None,
            (Conversion.TEXT_PARTS,),
        ),
    ],
)
def test_every_format_becomes_the_same_messages(
    row: Any,
    row_format: RowFormat,
    n_prompt_messages: int | None,
    conversions: tuple[Conversion, ...],
) -> None:
    found = conversation(row)
    assert found.messages == [USER, ANSWER]
    assert (found.file, found.line, found.format) == ("a.jsonl", 7, row_format)
    assert (found.n_prompt_messages, found.conversions) == (n_prompt_messages, conversions)
    assert (found.tools, found.columns) == (None, {})
    assert conversation(found.to_json()) == Conversation.from_json(found.to_json())


def test_system_column_and_history_come_before_the_prompt() -> None:
    row = {"instruction": "And?", "output": "2", "system": "Be brief.", "history": [["Tall?", "1"]]}
    found = conversation(row)
    said = [(message["role"], message["content"]) for message in found.messages]
    assert said == [
        ("system", "Be brief."),
        ("user", "Tall?"),
        ("assistant", "1"),
        ("user", "And?"),
        ("assistant", "2"),
    ]
    # With earlier answers in it every answer is trained, so there is no prompt to leave out.
    assert found.n_prompt_messages is None
    without = conversation({"instruction": "And?", "output": "2", "system": "Be brief."})
    assert without.n_prompt_messages == 2


def test_prompt_of_several_messages_is_remembered() -> None:
    found = conversation({"prompt": [SYSTEM, USER], "completion": [ANSWER, USER, ANSWER]})
    assert found.messages == [SYSTEM, USER, ANSWER, USER, ANSWER]
    assert found.n_prompt_messages == 2


def test_tool_calls_are_rewritten_and_noted() -> None:
    call = {"id": "1", "function": {"name": "measure", "arguments": '{"unit": "m"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    found = conversation({"messages": [USER, message], "tools": [TOOL]})
    assert found.messages[1]["tool_calls"] == [
        {"id": "1", "function": {"name": "measure", "arguments": {"unit": "m"}}}
    ]
    assert found.conversions == (Conversion.TOOL_CALLS,)
    assert found.tools == [TOOL]
    assert call["function"] == {"name": "measure", "arguments": '{"unit": "m"}'}


def test_each_conversion_is_noted_once_a_row() -> None:
    parts = [{"type": "text", "text": "How "}, {"type": "text", "text": "tall?"}]
    calls = [{"function": {"name": "measure", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    row = {"messages": [{"role": "user", "content": parts}, message] * 2}
    found = conversation(row)
    assert found.messages[2] == USER
    assert sorted(found.conversions) == [Conversion.TEXT_PARTS, Conversion.TOOL_CALLS]


@pytest.mark.parametrize(
    ("row", "n_messages"),
    [
        ({"messages": json.dumps([USER, ANSWER])}, 2),
        ({"messages": [USER, ANSWER], "tools": json.dumps([TOOL])}, 2),
        ({"prompt": "How?", "completion": "2", "tools": json.dumps(TOOL)}, 2),
    ],
)
def test_columns_of_json_text_are_parsed_and_noted(row: Any, n_messages: int) -> None:
    found = conversation(row)
    assert len(found.messages) == n_messages
    assert found.conversions == (Conversion.JSON_TEXT,)
    assert found.tools == ([TOOL] if "tools" in row else None)


def test_turns_of_json_text_are_parsed_and_noted_beside_the_format() -> None:
    turns = [{"from": "human", "value": "How tall?"}, {"from": "gpt", "value": "Two metres."}]
    found = conversation({"conversations": json.dumps(turns)})
    assert found.messages == [USER, ANSWER]
    assert found.conversions == (Conversion.JSON_TEXT, Conversion.SHAREGPT)


def test_turns_as_prompt_and_completion_are_parsed_and_their_unread_fields_named() -> None:
    human, model = {"from": "human", "value": "How tall?"}, {"from": "gpt", "value": "Two metres."}
    found = conversation({"prompt": json.dumps([human]), "completion": model})
    assert found.messages == [USER, ANSWER]
    found = conversation({"messages": [human, {**model, "mood": "glad"}]})
    assert found.messages == [USER, ANSWER]
    assert found.unused_fields == ("messages[].mood",)


def test_prompt_that_begins_with_a_bracket_stays_a_text() -> None:
    found = conversation({"prompt": "[1, 2] is what?", "completion": "[]"})
    assert [message["content"] for message in found.messages] == ["[1, 2] is what?", "[]"]
    listed = conversation({"prompt": "[1, 2]", "completion": '[{"a": 1}]'})
    assert [message["content"] for message in listed.messages] == ["[1, 2]", '[{"a": 1}]']
    parsed = conversation({"prompt": json.dumps([SYSTEM, USER]), "completion": "2"})
    assert parsed.messages[:2] == [SYSTEM, USER]


def test_columns_with_a_single_value_are_kept() -> None:
    row = {
        "prompt": "How tall?",
        "completion": "Two metres.",
        "topic": "walls",
        "n": 2,
        "is_good": True,
        "score": 0.5,
        "sources": ["x"],
        "meta": {"a": 1},
        "nothing": None,
    }
    assert conversation(row).columns == {"topic": "walls", "n": 2, "is_good": True, "score": 0.5}
    assert conversation({"messages": [USER, ANSWER], "id": 3}).columns == {"id": 3}


@pytest.mark.parametrize(
    ("row", "row_format"),
    [
        ({"messages": [USER, ANSWER]}, RowFormat.MESSAGES),
        ({"prompt": "How?", "completion": "2"}, RowFormat.PROMPT_COMPLETION),
        ({"conversations": [{"from": "human", "value": "a"}]}, RowFormat.SHAREGPT),
        ({"instruction": "How?", "output": "2"}, RowFormat.ALPACA),
    ],
)
def test_null_columns_of_a_mixed_table_count_as_absent(row: Any, row_format: RowFormat) -> None:
    names = {mark for marks in MARKS.values() for mark in marks} | {"tools", "input", "system"}
    padded = {**dict.fromkeys(sorted(names)), **row}
    found = conversation(padded)
    assert found.format is row_format
    assert found.messages == conversation(row).messages
    assert found.columns == {}


def test_null_prompt_and_completion_alone_are_empty_not_unknown() -> None:
    assert broken({"prompt": None, "completion": None}) == [
        ("prompt_empty", "prompt is null"),
        ("completion_empty", "completion is null"),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"messages": [USER, ANSWER], "prompt": "a", "completion": "b"},
            "has messages and prompt/completion",
        ),
        (
            {"messages": [USER, ANSWER], "conversations": [{"from": "human", "value": "Why?"}]},
            "has messages and conversations",
        ),
        (
            {"prompt": "a", "completion": "b", "instruction": "c", "output": "d"},
            "has prompt/completion and instruction/output",
        ),
    ],
)
def test_fields_of_a_second_format_are_noted_and_the_first_counts(row: Any, expected: str) -> None:
    found, _, violations = read(row)
    assert [(v.rule, v.detail) for v in violations] == [(RowRule.MIXED_FORMAT, expected)]
    assert found is not None
    assert found.format is (
        RowFormat.MESSAGES if "messages" in row else RowFormat.PROMPT_COMPLETION
    )


@pytest.mark.parametrize(
    "extra",
    [
        {"prompt": USER["content"]},
        {"instruction": USER["content"], "response": ANSWER["content"]},
        {"prompt": USER["content"], "completion": ANSWER["content"]},
        {"instruction": USER["content"], "output": ANSWER["content"], "input": ""},
        {"conversations": []},
        {"conversations": [{"from": "human", "value": USER["content"]}]},
        {"prompt": "", "completion": ""},
    ],
)
def test_columns_that_repeat_the_messages_are_no_second_format(extra: dict[str, Any]) -> None:
    assert broken({"messages": [USER, ANSWER], **extra}) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (None, ("not_an_object", "the row is null")),
        (3, ("not_an_object", "the row is a number")),
        ([{"a": 1}], ("not_an_object", "the row is a list")),
        ({}, ("unknown_format", "columns: none")),
        ({"question": 1, "answer": 2}, ("unknown_format", "columns: question, answer")),
        ({"messages": "hello"}, ("unknown_format", "messages is a text, not a list")),
        ({"messages": {}}, ("unknown_format", "messages is an object, not a list")),
        ({"messages": [USER], "tools": 3}, ("unknown_format", "tools is 3, not a list of tools")),
        ({"conversations": 5}, ("unknown_format", "conversations is a number, not a list")),
        ({"messages": []}, ("messages_empty", "messages is an empty list")),
        ({"messages": "[]"}, ("messages_empty", "messages is an empty list")),
        ({"conversations": []}, ("messages_empty", "conversations is an empty list")),
    ],
)
def test_row_without_a_conversation_says_why(row: Any, expected: tuple[str, str]) -> None:
    found, blank, _ = read(row)
    assert (found, blank) == (None, frozenset())
    assert broken(row) == [expected]


def test_empty_lists_for_prompt_and_completion_hold_no_conversation() -> None:
    found, _, _ = read({"prompt": [], "completion": []})
    assert found is None
    assert [rule for rule, _ in broken({"prompt": [], "completion": []})] == [
        "prompt_empty",
        "completion_empty",
        "messages_empty",
    ]
    half, blank, _ = read({"prompt": [], "completion": "2"})
    assert half is not None
    assert (half.messages, half.n_prompt_messages) == ([{"role": "assistant", "content": "2"}], 0)
    assert blank == frozenset()


def test_unparseable_row_says_what_the_reader_said() -> None:
    found, _, [violation] = recognise(SourceRow("a.jsonl", 1, unparseable="not JSON"))
    assert found is None
    assert (violation.rule, violation.detail) == (RowRule.UNPARSEABLE_LINE, "not JSON")


def test_blank_parts_are_judged_by_their_own_rule_alone() -> None:
    found, blank, violations = read({"prompt": " ", "completion": None})
    assert found is not None
    assert blank == {0, 1}
    assert [v.rule for v in violations] == [RowRule.PROMPT_EMPTY, RowRule.COMPLETION_EMPTY]
    _, blank, violations = read({"instruction": "", "input": "How?", "output": ""})
    assert [v.rule for v in violations] == [RowRule.COMPLETION_EMPTY]
    assert 1 in blank


STORED: dict[str, Any] = {
    "file": "train.jsonl",
    "line": 3,
    "format": "prompt_completion",
    "messages": [SYSTEM, USER, ANSWER],
    "n_prompt_messages": 2,
    "tools": [TOOL],
    "columns": {"topic": "walls", "n": 2},
}


def test_line_of_an_earlier_run_reads_as_it_is() -> None:
    assert set(STORED) == CANONICAL
    found = conversation(STORED)
    assert found.to_json() == STORED
    assert found.conversions == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", None),
        ("line", 0),
        ("line", 2**32),
        ("line", True),
        ("format", ["messages"]),
        ("format", "chat"),
        ("messages", []),
        ("messages", "[]"),
        ("n_prompt_messages", -1),
        ("n_prompt_messages", 4),
        ("n_prompt_messages", 1.0),
        ("tools", []),
        ("tools", "[]"),
        ("columns", None),
        ("columns", {"a": [1]}),
    ],
)
def test_object_that_only_has_the_fields_of_a_stored_line_is_read_as_any_other(
    field: str, value: Any
) -> None:
    row = {**STORED, field: value}
    assert is_stored(STORED)
    assert not is_stored(row)
    found, _, _ = read(row)
    if found is not None:
        assert (found.file, found.line, found.format) == ("a.jsonl", 7, RowFormat.MESSAGES)
        assert found.n_prompt_messages is None


def test_fields_of_every_format_are_known() -> None:
    assert set(USED_FIELDS) == set(MARKS) == set(RowFormat)
    assert all(set(MARKS[name]) <= USED_FIELDS[name] for name in RowFormat)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("[1]", [1]), (" [1]", [1]), ("[1", "[1"), ("x", "x"), ("{}", "{}"), (3, 3), (None, None)],
)
def test_lists_stored_as_text_are_read(value: Any, expected: Any) -> None:
    assert as_list(value) == expected


def test_deeply_nested_text_stays_a_text() -> None:
    text = "[" * 100_000
    assert as_list(text) is text
    assert as_messages(text) is text
