from __future__ import annotations

from typing import Any

import pytest

from schemas.rule_ids import RowRule
from schemas.rules._descriptions import describe_message
from tests.support.messages import USER


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (None, "no content"),
        (" \t", 'content is " \\t"'),
        (7, "content is 7"),
        ([], "content is an empty list"),
        ({"text": "Hi."}, "content is an object"),
        (["a", None], "part 2 of the content is null"),
        ([{"type": "text", "text": "a"}, {"type": "image"}], "part 2 of the content is of type image"),
        ([{"type": "text", "text": 3}], "part 1 of the content is a text part with the keys type, "
         "text; text is a number"),
        ([{"text": "a", "cite": "b"}], "part 1 of the content is without a type; its keys are text, cite"),
        ([{"type": ["a"]}], "part 1 of the content is of type a list"),
        (["a"], "content is a list"),
    ],
)  # fmt: skip
def test_content_is_described_by_what_was_seen(content: Any, seen: str) -> None:
    message = {"role": "user", "content": content}
    found = describe_message(RowRule.CONTENT_NOT_TEXT, [message], 0)
    assert found == f"message 1 (user): {seen}"


@pytest.mark.parametrize(
    ("rule", "messages", "seen"),
    [
        (RowRule.MESSAGE_NOT_OBJECT, [USER, "and?"], 'message 2 is a text: "and?"'),
        (RowRule.MESSAGE_NOT_OBJECT, [USER, ["and?"]], "message 2 is a list: a list"),
        (RowRule.UNKNOWN_ROLE, [USER, {"role": "critic"}], "critic in message 2"),
        (RowRule.UNKNOWN_ROLE, [USER, {"role": None}], "message 2 has no role"),
        (RowRule.UNKNOWN_ROLE, [USER, {"role": 3}], "role 3 in message 2"),
        (RowRule.LAST_TURN_NOT_ASSISTANT, [USER, {"role": "tool"}], "ends with tool"),
        (RowRule.SYSTEM_NOT_FIRST, [USER, {"role": "system"}], "message 2 is a system message"),
        (
            RowRule.NO_ASSISTANT_TURN,
            [{"role": "critic"}, USER],
            "no assistant turn; the roles are critic, user",
        ),
    ],
)
def test_roles_are_described_by_what_was_seen(
    rule: RowRule, messages: list[Any], seen: str
) -> None:
    assert describe_message(rule, messages, 1) == seen
