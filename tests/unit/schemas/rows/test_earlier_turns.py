from __future__ import annotations

from typing import Any

import pytest

from schemas.rows._earlier_turns import PAIRS, are_turns, from_history
from tests.support.messages import ANSWER, USER


def test_from_history_reads_pairs() -> None:
    assert from_history([["How tall?", "Two metres."], ["How wide?", "One."]], []) == [
        {"role": "user", "content": "How tall?"},
        {"role": "assistant", "content": "Two metres."},
        {"role": "user", "content": "How wide?"},
        {"role": "assistant", "content": "One."},
    ]


@pytest.mark.parametrize(
    ("history", "opening"),
    [
        (None, []),
        ([], []),
        ("", []),
        ("earlier", [{"role": "user", "content": "earlier"}]),
        ([["How tall?"]], [{"role": "user", "content": "How tall?"}]),
        ([[]], []),
        ([USER, ANSWER], [USER, ANSWER]),
        ([3], [3]),
    ],
)
def test_from_history_loses_nothing_of_another_form(history: Any, opening: list[Any]) -> None:
    assert from_history(history, []) == opening


@pytest.mark.parametrize(("question", "answer"), PAIRS)
def test_object_with_a_question_and_an_answer_is_a_pair(question: str, answer: str) -> None:
    history = [{question.title(): USER["content"], answer: ANSWER["content"]}]
    assert are_turns(history)
    assert from_history(history, []) == [USER, ANSWER]


@pytest.mark.parametrize(
    "item", [{"question": "How tall?"}, {"question": "a", "answer": 3}, {"v1": "a", "v2": "b"}, "a"]
)
def test_other_objects_are_no_turns(item: Any) -> None:
    assert not are_turns([item])
    [message] = from_history([item], [])
    assert message == (item if isinstance(item, str) else {"role": None, "content": None, **item})
