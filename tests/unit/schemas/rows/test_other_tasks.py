from __future__ import annotations

from typing import Any

import pytest

from schemas.rows._other_tasks import describe_preference, preference_pair, why_unknown
from schemas.rule_ids import RowRule
from tests.support.messages import ANSWER, USER

GPT = {"from": "gpt", "value": "Two metres."}
BAD = {"from": "gpt", "value": "Tall."}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "How?", "chosen": "So.", "rejected": "No."}, "{completion: chosen}"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [ANSWER]}, "{completion: chosen}"),
        ({"prompt": "How?", "chosen": [USER, ANSWER], "rejected": [USER]}, "{messages: chosen}"),
        (
            {"chosen": [{"from": "human", "value": "How?"}, GPT], "rejected": [BAD]},
            "{conversations: chosen}",
        ),
        ({"chosen": [{"from": "human", "value": "How?"}], "rejected": [BAD]},
         "{conversations: chosen}"),
        ({"messages": [USER], "chosen": ANSWER, "rejected": ANSWER},
         "{prompt: messages, completion: chosen}"),
        ({"conversations": [BAD], "chosen": GPT, "rejected": BAD},
         "{prompt: conversations, completion: chosen}"),
        ({"instruction": "How?", "input": "", "chosen": "So.", "rejected": "No."}, "{output: chosen}"),
        ({"question": "How?", "chosen": "So.", "rejected": "No."},
         "{prompt: question, completion: chosen}"),
        ({"query": "How?", "response": "So.", "rejected_response": "No."},
         "{prompt: query, completion: response}"),
    ],
)  # fmt: skip
def test_preference_row_names_the_mapping_of_its_chosen_answers(
    row: dict[str, Any], columns: str
) -> None:
    found = why_unknown(row)
    assert found.rule is RowRule.PREFERENCE_ROW
    assert f"data.source.columns={columns} trains on " in found.detail


def test_preference_row_without_a_mapping_says_what_to_write() -> None:
    for row in (
        {"chosen": "Human: How? Assistant: So.", "rejected": "Human: How? Assistant: No."},
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER],
         "non_preferred_output": [ANSWER]},
    ):  # fmt: skip
        assert "a prompt and a completion written from it" in describe_preference(row)


def test_stepwise_rows_are_named() -> None:
    row = {"prompt": "How?", "completions": ["First.", "Then."], "labels": [True, False]}
    assert "stepwise" in why_unknown(row).detail
    assert describe_preference({**row, "labels": None}) == ""


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": True, "rejected": False},
        {"chosen": 3.5, "rejected": 1.0},
        {"chosen": "So.", "rejected": None},
        {"chosen": "So.", "rejected": " "},
        {"chosen": [], "rejected": []},
        {"chosen": "So."},
    ],
)
def test_marks_and_scores_are_no_preference(row: dict[str, Any]) -> None:
    assert preference_pair(row) is None
    assert why_unknown(row).rule is RowRule.UNKNOWN_FORMAT


def test_rows_in_no_format_say_what_they_have() -> None:
    assert (
        why_unknown({"prompt": "How?"}).detail == "a prompt without a completion; columns: prompt"
    )
    segments = {"segments": [{"label": True, "text": "Hi."}]}
    assert why_unknown(segments).detail == "segments of text without roles; columns: segments"
    assert why_unknown({"text": "Hi."}).detail == "columns: text"
