from __future__ import annotations

from typing import Any

from tasks._prompts import (
    answer_text,
    conversation_key,
    last_answer_index,
    normalise_text,
    normalised_prompt,
)

CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "How  tall?"},
    {"role": "assistant", "content": "Two metres."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


def test_normalise_folds_case_space_and_character_coding() -> None:
    assert normalise_text("  Ｓtraße\n\tEins ") == "strasse eins"
    assert normalise_text("caf\u0065\u0301") == normalise_text("CAF\u00c9")


def test_prompt_is_all_before_the_last_answer() -> None:
    assert normalised_prompt(CHAT) == "user: how tall?\nassistant: two metres.\nuser: sure?"
    assert normalised_prompt(CHAT[:2]) == "user: how tall?"
    assert answer_text(CHAT) == "Yes."


def test_conversation_without_an_answer_is_all_prompt() -> None:
    assert last_answer_index(CHAT[:1]) == 1
    assert normalised_prompt(CHAT[:1]) == "user: how tall?"
    assert answer_text(CHAT[:1]) == ""


def test_tool_calls_are_part_of_what_is_said() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "a"}]}
    other = {"role": "assistant", "content": None, "tool_calls": [{"name": "b"}]}
    assert answer_text([call]) != answer_text([other])


def test_conversation_key_is_exact() -> None:
    assert conversation_key(CHAT) == conversation_key([dict(message) for message in CHAT])
    changed = [{**CHAT[0], "content": "How tall?"}, *CHAT[1:]]
    assert conversation_key(CHAT) != conversation_key(changed)
