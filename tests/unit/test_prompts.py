from __future__ import annotations

from typing import Any

import polars
import pytest
import xxhash

from tasks._prompts import answer_text, last_answer_index
from tasks.rows.features import normalised, text_hashes

CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "How  tall?"},
    {"role": "assistant", "content": "Two metres."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


def normal(text: str) -> str:
    return str(normalised(polars.Series([text]))[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How tall?", "how tall?"),
        ("  How \t\n tall?\r\n", "how tall?"),
        ("Ｈow\u00a0tall\u2003?", "how tall ?"),
        ("caf\u0065\u0301 CAF\u00c9", "café café"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_normalised_folds_case_space_and_character_coding(text: str, expected: str) -> None:
    assert normal(text) == expected
    assert normal(expected) == expected


def test_normalised_is_the_same_beside_other_texts() -> None:
    texts = ["Plain  text", "ＷIDE", "", "\u212b"]
    assert normalised(polars.Series(texts)).to_list() == [normal(text) for text in texts]


def test_hashes_are_xxh3_of_utf_8() -> None:
    assert text_hashes(["", "å"]).tolist() == [
        xxhash.xxh3_64_intdigest(b""),
        xxhash.xxh3_64_intdigest(b"\xc3\xa5"),
    ]
    assert text_hashes([]).tolist() == []


def test_answer_is_the_last_assistant_turn() -> None:
    assert last_answer_index(CHAT) == 3
    assert last_answer_index([*CHAT, {"role": "user", "content": "Why?"}]) == 3
    assert answer_text(CHAT) == "Yes."


def test_conversation_without_an_answer_has_none() -> None:
    assert last_answer_index(CHAT[:1]) == 1
    assert answer_text(CHAT[:1]) == ""


def test_tool_calls_are_part_of_the_answer() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "a"}]}
    other = {"role": "assistant", "content": None, "tool_calls": [{"name": "b"}]}
    assert answer_text([call]) != answer_text([other])
