from __future__ import annotations

from typing import Any

import pytest

from schemas.rows.recognition import recognise
from schemas.rows.row import Conversation, SourceRow
from schemas.rule_ids import RowRule
from tests.support.messages import ANSWER, SYSTEM, USER

CHAT: dict[str, Any] = {"messages": [USER, ANSWER]}
PASSAGE = "The wall was built in 1880 of granite from the quarry on the hill."
CHAT_OF_PAIR: dict[str, Any] = {
    "messages": [{"role": "user", "content": "When was it built?"}, ANSWER]
}
PAIR: dict[str, Any] = {"prompt": "When was it built?", "completion": "In 1880."}


def read(row: dict[str, Any]) -> tuple[Conversation, list[tuple[str, str]]]:
    found, _, violations = recognise(SourceRow("a.jsonl", 1, row))
    assert found is not None
    return found, [(str(violation.rule), violation.detail) for violation in violations]


@pytest.mark.parametrize("name", ["prompt", "instruction", "completion", "output", "input"])
def test_field_of_another_format_is_silent_only_if_it_repeats_the_row(name: str) -> None:
    text = ANSWER["content"] if name in ("completion", "output") else USER["content"]
    for value in (text, f" {text}\n", None, "", "nan"):
        found, broken = read({**CHAT, name: value})
        assert (broken, found.columns, found.unused_fields) == ([], {}, ())
    detail = f"{name} is a column, and its text is not in the conversation"
    assert read({**CHAT, name: "Why?"})[1] == [(RowRule.FIELD_NOT_USED, detail)]
    assert read({**CHAT, name: 3})[1] == []


def test_short_input_next_to_a_prompt_is_named_and_a_filler_is_not() -> None:
    assert read({**PAIR, "input": "5, 10"})[1][0][0] == RowRule.FIELD_NOT_USED
    assert read({**PAIR, "input": "<noinput>"})[1] == []


def test_prompt_of_messages_that_opens_the_conversation_is_silent() -> None:
    assert read({"messages": [SYSTEM, USER, ANSWER], "prompt": [SYSTEM, USER]})[1] == []


@pytest.mark.parametrize("name", ["context", "passage", "article", "documents"])
@pytest.mark.parametrize("value", [PASSAGE, [PASSAGE], [{"title": "Wall", "text": PASSAGE}]])
def test_text_to_work_on_is_named_unless_the_prompt_has_it(name: str, value: Any) -> None:
    detail = f"{name} is a column; write its text into the prompt"
    assert read({**PAIR, name: value})[1] == [(RowRule.FIELD_NOT_USED, detail)]
    within = {**PAIR, "prompt": f"Read this:\n{PASSAGE}\n\nWhen was it built?"}
    assert read({**within, name: value})[1] == []


@pytest.mark.parametrize("value", ["history", "walls and roofs", 7, ["wall"], {"id": 3}, None])
def test_value_that_only_labels_the_row_is_a_column(value: Any) -> None:
    assert read({**PAIR, "context": value})[1] == []


@pytest.mark.parametrize(
    ("text", "is_passage"),
    [
        ("a b " * 10, False),
        ("a b " * 10 + "c", True),
        ("ä b " * 4, True),
        ("ä b " * 3 + "cd", False),
    ],
)
def test_passage_is_longer_than_a_title(text: str, is_passage: bool) -> None:
    """At least 40 characters without the white space around them, or 15 of another script."""
    assert bool(read({**PAIR, "context": text})[1]) is is_passage


@pytest.mark.parametrize(
    ("text", "is_repeated"),
    [
        ("built", True),
        ("uilt", False),  # no whole word
        ("When   was\nit built?", True),
        ("was it built?In 1880", False),
        ("hen was it built, yes", False),
        ("it built?", True),
    ],
)
def test_short_text_is_repeated_as_whole_words(text: str, is_repeated: bool) -> None:
    assert (read({**CHAT_OF_PAIR, "input": text})[1] == []) is is_repeated


def test_text_of_more_than_twenty_characters_may_begin_within_a_word() -> None:
    chat = {"messages": [{"role": "user", "content": "X" + "a" * 21}, ANSWER]}
    assert read({**chat, "input": "a" * 21})[1] == []
    assert read({**chat, "input": "a" * 20})[1] != []


def test_first_two_hundred_characters_tell_whether_a_text_is_repeated() -> None:
    long = "b" * 199 + "c"
    chat = {"messages": [{"role": "user", "content": long}, ANSWER]}
    assert read({**chat, "input": f"{long} and more"})[1] == []
    assert read({**chat, "input": "b" * 199 + "d"})[1] != []


def test_roles_and_ids_are_no_texts() -> None:
    value = [{"role": "no such", "from": "x", "type": "y", "id": "z", "content": "How tall?"}]
    chat = {"messages": [{"role": "user", "content": "How tall?"}, ANSWER]}
    assert read({**chat, "prompt": value})[1] == []
    assert read({**chat, "prompt": [{**value[0], "title": "no such"}]})[1] != []


def test_reasoning_in_a_column_is_silent_if_the_answer_has_it() -> None:
    thought = "It was built before the station, which opened in 1881."
    assert read({**PAIR, "cot": thought})[1][0][0] == RowRule.FIELD_NOT_USED
    assert read({**PAIR, "rationale": [thought]})[1][0][0] == RowRule.FIELD_NOT_USED
    answer = {**PAIR, "completion": f"<think>\n{thought}\n</think>\n\nIn 1880."}
    assert read({**answer, "Complex_CoT": thought})[1] == []
    assert read({**PAIR, "cot": "short"})[1] == []
