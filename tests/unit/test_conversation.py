from __future__ import annotations

from typing import Any

import pytest

from schemas.conversation import ROW_RULES, check_rows, row_severities
from schemas.errors import ConfigError
from schemas.rows import RowFormat, SourceRow
from schemas.rules import RowRule, RuleSetting, Severity

USER = {"role": "user", "content": "How tall is the wall?"}
ANSWER = {"role": "assistant", "content": "Two metres."}
SYSTEM = {"role": "system", "content": "Be brief."}
DEVELOPER = {"role": "developer", "content": "Be brief."}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "measure"}}]}
TOOL = {"role": "tool", "content": "2 m"}
PLAIN = {"prompt": "How tall?", "completion": "Two metres."}


def chat(*messages: Any) -> SourceRow:
    return SourceRow("a.jsonl", 1, {"messages": list(messages)})


def pair(prompt: Any, completion: Any) -> SourceRow:
    return SourceRow("a.jsonl", 1, {"prompt": prompt, "completion": completion})


# For each rule: a row that breaks it and nothing else, and its nearest legal neighbour.
CASES: list[tuple[RowRule, SourceRow, SourceRow]] = [
    (
        RowRule.UNPARSEABLE_LINE,
        SourceRow("a.jsonl", 1, unparseable="Expecting value at column 1"),
        SourceRow("a.jsonl", 1, PLAIN),
    ),
    (RowRule.NOT_AN_OBJECT, SourceRow("a.jsonl", 1, [PLAIN]), SourceRow("a.jsonl", 1, PLAIN)),
    (
        RowRule.UNKNOWN_FORMAT,
        SourceRow("a.jsonl", 1, {"prompt": "How tall?"}),
        SourceRow("a.jsonl", 1, PLAIN),
    ),
    (
        RowRule.MIXED_FORMAT,
        SourceRow("a.jsonl", 1, {"messages": [USER, ANSWER], "prompt": "How tall?"}),
        SourceRow("a.jsonl", 1, {"messages": [USER, ANSWER], "prompt": None}),
    ),
    (RowRule.MESSAGES_EMPTY, chat(), chat(USER, ANSWER)),
    (RowRule.MESSAGE_NOT_OBJECT, chat(USER, "and?", ANSWER), chat(USER, ANSWER)),
    (
        RowRule.UNKNOWN_ROLE,
        chat(USER, {"role": "critic", "content": "Well."}, ANSWER),
        chat(DEVELOPER, USER, ANSWER),
    ),
    (
        RowRule.CONTENT_MISSING,
        chat(USER, {"role": "assistant"}),
        chat(USER, CALL, TOOL, ANSWER),
    ),
    (
        RowRule.CONTENT_EMPTY,
        chat({"role": "user", "content": " \n"}, ANSWER),
        chat({"role": "user", "content": "."}, ANSWER),
    ),
    (
        RowRule.CONTENT_NOT_TEXT,
        chat(USER, {"role": "assistant", "content": 2}),
        chat(USER, {"role": "assistant", "content": "2"}),
    ),
    (RowRule.SYSTEM_NOT_FIRST, chat(USER, SYSTEM, ANSWER), chat(SYSTEM, USER, ANSWER)),
    (
        RowRule.ROLES_NOT_ALTERNATING,
        chat(USER, USER, ANSWER),
        chat(USER, ANSWER, USER, ANSWER),
    ),
    (RowRule.NO_ASSISTANT_TURN, chat(SYSTEM, USER), chat(SYSTEM, USER, ANSWER)),
    (
        RowRule.LAST_TURN_NOT_ASSISTANT,
        chat(USER, ANSWER, USER),
        chat(USER, ANSWER, USER, ANSWER),
    ),
    (RowRule.PROMPT_EMPTY, pair("  ", "Two metres."), pair("?", "Two metres.")),
    (RowRule.COMPLETION_EMPTY, pair("How tall?", None), pair("How tall?", "2")),
]


def broken(row: SourceRow) -> set[RowRule]:
    [checked] = check_rows([row], row_severities({}))
    return {violation.rule for violation in checked.violations}


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[str(case[0]) for case in CASES])
def test_rule_is_broken_by_a_bad_row_and_by_nothing_near_it(
    rule: RowRule, bad: SourceRow, good: SourceRow
) -> None:
    assert broken(bad) == {rule}
    assert broken(good) == set()


def test_every_rule_is_defined_and_tested() -> None:
    assert set(ROW_RULES) == set(RowRule)
    assert {case[0] for case in CASES} == set(RowRule)
    assert all(definition.meaning and definition.fix for definition in ROW_RULES.values())


def test_defaults_block_all_but_mixed_format() -> None:
    severities = row_severities({})
    assert severities.pop(RowRule.MIXED_FORMAT) is Severity.WARN
    assert set(severities.values()) == {Severity.BLOCK}


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ((USER, USER, ANSWER), "user, user"),
        ((ANSWER,), "begins with assistant"),
        ((USER, ANSWER, ANSWER), "assistant, assistant"),
        ((USER, TOOL, ANSWER), "user, tool"),
        ((USER, CALL, TOOL, USER, ANSWER), "tool, user"),
    ],
)
def test_alternation_says_which_turns_clash(messages: tuple[Any, ...], detail: str) -> None:
    [checked] = check_rows([chat(*messages)], row_severities({}))
    assert [v.detail for v in checked.violations] == [detail]


def test_a_row_can_break_several_rules() -> None:
    assert broken(chat({"role": "critic", "content": ""}, USER)) == {
        RowRule.UNKNOWN_ROLE,
        RowRule.CONTENT_EMPTY,
        RowRule.NO_ASSISTANT_TURN,
    }


def test_other_format_than_the_first_row_warns_and_is_kept() -> None:
    rows = [SourceRow("a.jsonl", 1, PLAIN), chat(USER, ANSWER)]
    first, second = check_rows(rows, row_severities({}))
    assert first.violations == ()
    assert [v.rule for v in second.violations] == [RowRule.MIXED_FORMAT]
    assert second.conversation is not None
    [later] = check_rows(rows[:1], row_severities({}), RowFormat.MESSAGES)
    assert [v.rule for v in later.violations] == [RowRule.MIXED_FORMAT]


def test_strings_become_one_user_and_one_assistant_message() -> None:
    row = SourceRow(
        "a.jsonl", 7, {**PLAIN, "topic": "walls", "n": 2, "sources": ["x"], "tools": []}
    )
    [checked] = check_rows([row], row_severities({}))
    found = checked.conversation
    assert found is not None
    assert found.messages == [
        {"role": "user", "content": "How tall?"},
        {"role": "assistant", "content": "Two metres."},
    ]
    assert (found.format, found.n_prompt_messages, found.tools) == ("prompt_completion", 1, None)
    assert found.columns == {"topic": "walls", "n": 2}
    assert type(found).from_json(found.to_json()) == found


def test_message_lists_are_joined_and_the_prompt_is_remembered() -> None:
    [checked] = check_rows([pair([SYSTEM, USER], [ANSWER])], row_severities({}))
    assert checked.conversation is not None
    assert checked.conversation.messages == [SYSTEM, USER, ANSWER]
    assert checked.conversation.n_prompt_messages == 2


def test_null_fields_of_messages_are_left_out_and_tools_may_be_json_text() -> None:
    row = SourceRow(
        "a.csv",
        1,
        {
            "messages": '[{"role": "user", "content": "a", "name": null},'
            ' {"role": "assistant", "content": "b"}]',
            "tools": '[{"type": "function"}]',
        },
    )
    [checked] = check_rows([row], row_severities({}))
    assert checked.conversation is not None
    assert checked.conversation.messages[0] == {"role": "user", "content": "a"}
    assert checked.conversation.tools == [{"type": "function"}]
    assert checked.conversation.n_prompt_messages is None


@pytest.mark.parametrize("row", [{"messages": "hello"}, {"messages": {}}, {**PLAIN, "tools": "x"}])
def test_fields_of_the_wrong_kind_are_an_unknown_format(row: dict[str, Any]) -> None:
    assert broken(SourceRow("a.jsonl", 1, row)) == {RowRule.UNKNOWN_FORMAT}


def test_warn_keeps_the_row_and_off_does_not_look() -> None:
    row = chat(USER, USER, ANSWER)
    rule = RowRule.ROLES_NOT_ALTERNATING
    [warned] = check_rows([row], row_severities({rule: RuleSetting(severity=Severity.WARN)}))
    assert warned.conversation is not None
    assert [v.rule for v in warned.violations] == [rule]
    [passed] = check_rows([row], row_severities({rule: RuleSetting(severity=Severity.OFF)}))
    assert passed.conversation is not None
    assert passed.violations == ()


def test_a_rule_without_which_there_is_no_conversation_cannot_be_loosened() -> None:
    with pytest.raises(ConfigError, match="holds no conversation"):
        row_severities({RowRule.NOT_AN_OBJECT: RuleSetting(severity=Severity.WARN)})


def test_switched_off_pandera_refuses_to_run() -> None:
    from pandera.config import config_context

    with config_context(validation_enabled=False), pytest.raises(ConfigError) as caught:
        check_rows([chat(USER, ANSWER)], row_severities({}))
    assert "PANDERA_VALIDATION_ENABLED" in caught.value.where


def test_schema_only_depth_still_looks_at_the_data() -> None:
    from pandera.config import ValidationDepth, config_context

    with config_context(validation_depth=ValidationDepth.SCHEMA_ONLY):
        assert broken(chat(USER, USER, ANSWER)) == {RowRule.ROLES_NOT_ALTERNATING}
