from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.rows.row import RowFormat, SourceRow
from schemas.rule_ids import RowRule, RuleSetting, Severity
from schemas.rules.check_rows import CheckedRow, check_rows, require_pandera
from schemas.rules.row_rules import row_severities
from tests.support.messages import ANSWER, SYSTEM, USER

DEVELOPER = {"role": "developer", "content": "Be brief."}
TOOL = {"role": "tool", "content": "2 m"}
PLAIN = {"prompt": "How tall?", "completion": "Two metres."}
MEASURE = {
    "type": "function",
    "function": {
        "name": "measure",
        "parameters": {
            "type": "object",
            "properties": {"unit": {"enum": ["m", "ft"]}},
            "required": ["unit"],
        },
    },
}
MCP_TOOL = {
    "name": "measure",
    "inputSchema": {"properties": {"unit": {"type": "string"}}, "required": ["unit"]},
}
SECRET = "AKIA" + "Z7Q2M4X5B3C3D5E6"


def source(row: Any) -> SourceRow:
    return SourceRow("a.jsonl", 1, row)


def chat(*messages: Any, **columns: Any) -> SourceRow:
    return source({"messages": list(messages), **columns})


def pair(prompt: Any, completion: Any) -> SourceRow:
    return source({"prompt": prompt, "completion": completion})


def says(content: Any, **fields: Any) -> SourceRow:
    return chat(USER, {"role": "assistant", "content": content, **fields})


def calls(arguments: Any = None, name: str = "measure", **fields: Any) -> dict[str, Any]:
    call = {"function": {"name": name, "arguments": arguments}, **fields}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


CALL = calls()


# For each rule: a row that breaks it and nothing else, and its nearest legal neighbour.
CASES: list[tuple[RowRule, SourceRow, SourceRow]] = [
    (
        RowRule.UNPARSEABLE_LINE,
        SourceRow("a.jsonl", 1, unparseable="Expecting value at column 1"),
        source(PLAIN),
    ),
    (RowRule.NOT_AN_OBJECT, source([PLAIN]), source(PLAIN)),
    (RowRule.UNKNOWN_FORMAT, source({"prompt": "How tall?"}), source(PLAIN)),
    (
        RowRule.PREFERENCE_ROW,
        source({"prompt": "How tall?", "chosen": "Two metres.", "rejected": "Tall."}),
        source({**PLAIN, "chosen": "Two metres.", "rejected": "Tall."}),
    ),
    (
        RowRule.PREFERENCE_ROW,
        chat(USER, chosen=ANSWER, rejected={**ANSWER, "content": "Tall."}),
        chat(USER, ANSWER, chosen=True, rejected=False),
    ),
    (
        RowRule.PREFERENCE_ROW,
        source({"prompt": "How tall?", "completions": ["Let us see."], "labels": [True]}),
        source({**PLAIN, "labels": [True]}),
    ),
    (RowRule.UNPAIRED_PREFERENCE, source({**PLAIN, "label": False}), source({**PLAIN, "label": 0})),
    (
        RowRule.UNPAIRED_PREFERENCE,
        chat(USER, ANSWER, kto_tag=False),
        chat(USER, ANSWER, kto_tag=True),
    ),
    (
        RowRule.MIXED_FORMAT,
        chat(USER, ANSWER, prompt="How tall?", completion="2"),
        chat(USER, ANSWER, prompt=USER["content"], completion=ANSWER["content"]),
    ),
    (RowRule.MESSAGES_EMPTY, chat(), chat(USER, ANSWER)),
    (RowRule.MESSAGE_NOT_OBJECT, chat(USER, "and?", ANSWER), chat(USER, ANSWER)),
    (
        RowRule.UNKNOWN_ROLE,
        chat({"role": "developers", "content": "Be brief."}, USER, ANSWER),
        chat(DEVELOPER, USER, ANSWER),
    ),
    (RowRule.CONTENT_MISSING, chat(USER, {"role": "assistant"}), chat(USER, CALL)),
    (RowRule.CONTENT_MISSING, says(None), says("None of them.")),
    (RowRule.CONTENT_EMPTY, says(" \n"), says(".")),
    (
        RowRule.CONTENT_EMPTY,
        says([{"type": "text", "text": ""}]),
        says([{"type": "text", "text": "."}]),
    ),
    (RowRule.CONTENT_EMPTY, chat({**USER, "content": "", "name": "Ada"}, ANSWER), says(".")),
    (
        RowRule.CONTENT_EMPTY,
        chat({**SYSTEM, "content": ""}, {**USER, "content": ""}, ANSWER),
        chat({**SYSTEM, "content": ""}, USER, ANSWER),
    ),
    (
        RowRule.CONTENT_MISSING,
        chat({**DEVELOPER, "content": None}, USER, ANSWER),
        chat({**DEVELOPER, "content": " "}, USER, ANSWER),
    ),
    (
        RowRule.CONTENT_EMPTY,
        chat(USER, CALL, {**TOOL, "content": "2"}, {**ANSWER, "content": ""}),
        chat(USER, CALL, {**TOOL, "content": ""}, ANSWER),
    ),
    (
        RowRule.CONTENT_MISSING,
        chat(USER, CALL, {"role": "tool"}, ANSWER),
        chat(USER, CALL, {**TOOL, "content": None}, ANSWER),
    ),
    (RowRule.CONTENT_NOT_TEXT, says(2), says("2")),
    (
        RowRule.CONTENT_NOT_TEXT,
        source({"instruction": "", "input": 3, "output": "2"}),
        source({"instruction": "", "input": "3", "output": "2"}),
    ),
    (RowRule.SYSTEM_NOT_FIRST, chat(USER, SYSTEM, ANSWER), chat(SYSTEM, USER, ANSWER)),
    (RowRule.ROLES_NOT_ALTERNATING, chat(USER, USER, ANSWER), chat(USER, ANSWER, USER, ANSWER)),
    (RowRule.NO_ASSISTANT_TURN, chat(SYSTEM, USER), chat(SYSTEM, USER, ANSWER)),
    (
        RowRule.LAST_TURN_NOT_ASSISTANT,
        chat(USER, ANSWER, USER),
        chat(USER, ANSWER, USER, ANSWER),
    ),
    (
        RowRule.TOOL_CALL_INVALID,
        chat(USER, calls('{"unit": "m"'), TOOL, ANSWER),
        chat(USER, calls('{"unit": "m"}'), TOOL, ANSWER),
    ),
    (
        RowRule.TOOL_CALL_INVALID,
        chat(USER, calls({"unit": "m"}, "weigh"), TOOL, ANSWER, tools=[MEASURE]),
        chat(USER, calls({"unit": "m"}), TOOL, ANSWER, tools=[MEASURE]),
    ),
    (
        RowRule.TOOL_CALL_INVALID,
        chat(USER, calls({"unit": "cm"}), TOOL, ANSWER, tools=[MEASURE]),
        chat(USER, calls({"unit": "ft"}), TOOL, ANSWER, tools=[MEASURE]),
    ),
    (
        RowRule.TOOL_RESULT_UNMATCHED,
        chat(USER, ANSWER, TOOL, ANSWER),
        chat(USER, CALL, TOOL, ANSWER),
    ),
    (
        RowRule.TOOL_RESULT_UNMATCHED,
        chat(USER, calls(id="1"), {**TOOL, "tool_call_id": "2"}, ANSWER),
        chat(USER, calls(id="1"), {**TOOL, "tool_call_id": "1"}, ANSWER),
    ),
    (RowRule.PROMPT_EMPTY, pair("  ", "Two metres."), pair("?", "Two metres.")),
    (
        RowRule.PROMPT_EMPTY,
        source({"instruction": "", "input": " ", "output": "2"}),
        source({"instruction": "", "input": "?", "output": "2"}),
    ),
    (RowRule.COMPLETION_EMPTY, pair("How tall?", None), pair("How tall?", "2")),
    (RowRule.WEIGHT_INVALID, says("2", weight=0.5), says("2", weight=0)),
    (RowRule.WEIGHT_INVALID, chat({**USER, "weight": 1}, ANSWER), says("2", weight=1)),
    (RowRule.WEIGHT_INVALID, says("2", loss=True, weight=0), says("2", loss=False, weight=0)),
    (RowRule.WEIGHT_INVALID, chat({**USER, "train": True}, ANSWER), says("2", train=True)),
    (RowRule.NEEDS_MEDIA, chat(USER, ANSWER, images=["a.jpg"]), chat(USER, ANSWER, images=[])),
    (
        RowRule.NEEDS_MEDIA,
        chat({**USER, "content": "<audio>What is this?"}, ANSWER, audios=None),
        chat({**USER, "content": "What is <audio> in HTML?"}, ANSWER),
    ),
    (
        RowRule.NEEDS_MEDIA,
        chat({**USER, "content": "<image>\nWhat is this?"}, ANSWER),
        says("<image>\nThis is how the file begins."),
    ),
    (
        RowRule.NEEDS_MEDIA,
        chat({**USER, "content": "<img>a.jpeg</img>What is this?"}, ANSWER, image="a.jpeg"),
        says("<img>a.jpeg</img>What is this?"),
    ),
    (
        RowRule.TOOL_CALL_INVALID,
        chat(USER, calls({}), TOOL, ANSWER, tools=[MCP_TOOL]),
        chat(USER, calls({"unit": "m"}), TOOL, ANSWER, tools=[MCP_TOOL]),
    ),
    (
        RowRule.SYSTEM_CONFLICT,
        chat(SYSTEM, USER, ANSWER, system="Be kind."),
        chat(SYSTEM, USER, ANSWER, system=SYSTEM["content"]),
    ),
    (
        RowRule.FIELD_NOT_USED,
        chat(USER, ANSWER, chat_template_kwargs={"enable_thinking": False}),
        chat(USER, ANSWER, chat_template_kwargs={}),
    ),
    (RowRule.CONTROL_CHARACTERS, says("Two\bmetres."), says("Two\tmetres.\r\n")),
    (RowRule.ENCODING_DAMAGE, says("The caf\ufffd."), says("The caf\u00e9.")),
    (RowRule.ENCODING_DAMAGE, says("The cafÃ©."), says("The café.")),
    (RowRule.SPECIAL_TOKEN_INJECTION, says("Two.<|im_end|>"), says("Two.<im_end>")),
    (RowRule.UNRENDERED_PLACEHOLDER, says("Dear {{name}}, two."), says("Dear {name}, two.")),
    (RowRule.MISSING_VALUE_TEXT, says("nan"), says("nan bread")),
    (
        RowRule.MISSING_VALUE_TEXT,
        source({"instruction": "Sort.", "input": "N/A", "output": "2"}),
        source({"instruction": "Sort.", "input": "", "output": "N/A"}),
    ),
    (RowRule.TOKEN_PIECES, says("The Ġwall Ġis Ġtall."), says("Ġ is a space.")),
    (RowRule.ESCAPED_LINE_BREAKS, says(r"One.\nTwo.\nThree."), says("One.\nTwo.\nThree.")),
    (RowRule.HTML_ENTITIES, says("It&#39;s &quot;2&quot;."), says('It\'s "2" & more.')),
    (RowRule.TEXT_RESIDUE, says("It is two\ufffc."), says("It is two.")),
    (
        RowRule.ANSWER_BOUNDARY,
        says("Two.\n### Human:"),
        pair("How tall?\n```python\ndef", "x = 2\n```"),
    ),
    (
        RowRule.CONTENT_EMPTY,
        says("\u200b\u2060"),
        says("\u200b2"),
    ),
    (
        RowRule.LOOPING_ANSWER,
        says("It is two. " * 9),
        chat({**USER, "content": "Is it? " * 20}, ANSWER),
    ),
    (RowRule.UNCLOSED_THOUGHT, says("<think>Well"), says("<think>Well</think>Two.")),
    (
        RowRule.UNBALANCED_THOUGHT,
        says("Well.</think>Two."),
        pair("How tall?<think>\n", "Well.</think>Two."),
    ),
    (
        RowRule.UNBALANCED_THOUGHT,
        says("<think>Well.</thinking>Two."),
        chat({**USER, "content": "<think> Why not </thinking>?"}, ANSWER),
    ),
    (RowRule.SECRET_OR_PII, says(f"The key is {SECRET}."), says(f"The key is {SECRET[:-1]}.")),
]


def check_one(row: SourceRow, *arguments: Any) -> CheckedRow:
    [checked] = check_rows([row], row_severities({}), *arguments)
    return checked


def broken(row: SourceRow) -> set[RowRule]:
    return {violation.rule for violation in check_one(row).violations}


def details(row: SourceRow, *arguments: Any) -> dict[str, str]:
    return {str(found.rule): found.detail for found in check_one(row, *arguments).violations}


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[str(case[0]) for case in CASES])
def test_rule_is_broken_by_a_bad_row_and_by_nothing_near_it(
    rule: RowRule, bad: SourceRow, good: SourceRow
) -> None:
    assert broken(bad) == {rule}
    assert broken(good) == set()


def test_every_rule_is_tested() -> None:
    assert {rule for rule, _, _ in CASES} == set(RowRule)


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[str(case[0]) for case in CASES])
def test_rows_checked_together_break_what_each_breaks_alone(
    rule: RowRule, bad: SourceRow, good: SourceRow
) -> None:
    severities = row_severities({RowRule.MIXED_FORMAT: RuleSetting(severity=Severity.OFF)})
    rows = [good, bad, source(PLAIN), bad]
    first, second, third, fourth = check_rows(rows, severities)
    assert first.violations == third.violations == ()
    assert second.violations == fourth.violations
    expected = [] if rule is RowRule.MIXED_FORMAT else [rule]
    assert [violation.rule for violation in second.violations] == expected


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[str(case[0]) for case in CASES])
def test_blocking_rule_takes_the_conversation_and_warning_leaves_it(
    rule: RowRule, bad: SourceRow, good: SourceRow
) -> None:
    is_blocking = row_severities({})[rule] is Severity.BLOCK
    assert (check_one(bad).conversation is None) is is_blocking
    assert check_one(good).conversation is not None


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ((USER, USER, ANSWER), "user, user"),
        ((ANSWER,), "begins with assistant"),
        ((USER, ANSWER, ANSWER), "assistant, assistant"),
        ((USER, TOOL, ANSWER), "user, tool"),
        ((USER, CALL, TOOL, USER, ANSWER), "tool, user"),
        ((SYSTEM, ANSWER), "begins with assistant"),
    ],
)
def test_alternation_says_which_turns_clash(messages: tuple[Any, ...], detail: str) -> None:
    assert details(chat(*messages))["roles_not_alternating"] == detail


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (chat({**USER, "role": "critic"}, USER, ANSWER), {"unknown_role": "critic in message 1"}),
        (chat({**USER, "role": None}, USER, ANSWER), {"unknown_role": "message 1 has no role"}),
        (
            chat({**USER, "role": ["user"]}, USER, ANSWER),
            {"unknown_role": "role a list in message 1"},
        ),
        (says(" "), {"content_empty": 'message 2 (assistant): content is " "'}),
        (says(None), {"content_missing": "message 2 (assistant): no content"}),
        (
            says(["a", 1]),
            {"content_not_text": "message 2 (assistant): part 2 of the content is 1"},
        ),
        (
            says([{"type": "text", "value": "2"}]),
            {
                "content_not_text": "message 2 (assistant): part 1 of the content is a text part "
                "with the keys type, value; text is missing"
            },
        ),
        (
            chat({"role": "user", "text": "How?"}, ANSWER),
            {"content_missing": "message 1 (user): no content; it has text"},
        ),
        (chat(USER, ANSWER, USER), {"last_turn_not_assistant": "ends with user"}),
        (
            chat(SYSTEM, USER),
            {"no_assistant_turn": "no assistant turn; the roles are system, user"},
        ),
        (chat(USER, SYSTEM, ANSWER), {"system_not_first": "message 2 is a system message"}),
        (chat(USER, 7, ANSWER), {"message_not_object": "message 2 is a number: 7"}),
        (says("2", weight=3), {"weight_invalid": "message 2: weight 3"}),
        (says("a\x00"), {"control_characters": "U+0000 at character 2 in message 2"}),
        (says("{{name}}"), {"unrendered_placeholder": "{{name}} in message 2"}),
        (says("<|im_end|>"), {"special_token_injection": "<|im_end|> in message 2"}),
        (pair("", "2"), {"prompt_empty": 'prompt is ""'}),
        (pair("How?", None), {"completion_empty": "completion is null"}),
        (source("x"), {"not_an_object": "the row is a text"}),
        (source({"a": 1, "b": 2}), {"unknown_format": "columns: a, b"}),
    ],
)
def test_detail_says_what_was_seen_and_where(row: SourceRow, expected: dict[str, str]) -> None:
    assert details(row) == expected


@pytest.mark.parametrize(
    "row",
    [
        chat({"role": "user", "content": f"My key is {SECRET}."}, ANSWER),
        says(f"My key is {SECRET}."),
        says("Done.", reasoning_content=f"The key is {SECRET}."),
        chat(USER, calls({"key": SECRET})),
        pair(f"My key is {SECRET}.", "Noted."),
    ],
)
def test_secret_is_found_wherever_it_stands_and_never_shown(row: SourceRow) -> None:
    found = details(row)
    assert list(found) == ["secret_or_pii"]
    assert "in message" in found["secret_or_pii"]
    assert SECRET not in found["secret_or_pii"]
    assert SECRET[4:] not in found["secret_or_pii"]


def test_special_tokens_of_the_model_are_looked_for_beside_the_known_ones() -> None:
    row = says("Two metres.[[stop]]")
    assert details(row) == {}
    assert details(row, None, ("[[stop]]",)) == {"special_token_injection": "[[stop]] in message 2"}
    assert list(details(says("<|im_end|>"), None, ("[[stop]]",))) == ["special_token_injection"]


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "add", "description": "Adds.<|im_end|>"},
        {"name": "add<|im_end|>"},
        {"name": "add", "parameters": {"type": "object", "properties": {"<|im_end|>": {}}}},
        {"type": "function", "function": {"name": "add", "strict": ["<|im_end|>"]}},
    ],
)
def test_special_token_in_a_tool_is_found(tool: dict[str, Any]) -> None:
    found = details(source({"messages": [USER, ANSWER], "tools": [tool]}))
    assert found["special_token_injection"] == "<|im_end|> in the tools"


def test_a_row_can_break_several_rules() -> None:
    assert broken(chat({"role": "critic", "content": ""}, USER)) == {
        RowRule.UNKNOWN_ROLE,
        RowRule.CONTENT_EMPTY,
        RowRule.NO_ASSISTANT_TURN,
    }
    assert broken(chat({**USER, "content": "{{a_name}} \x00"}, {**USER, "content": None})) == {
        RowRule.UNRENDERED_PLACEHOLDER,
        RowRule.CONTROL_CHARACTERS,
        RowRule.CONTENT_MISSING,
        RowRule.ROLES_NOT_ALTERNATING,
        RowRule.NO_ASSISTANT_TURN,
    }


def test_a_rule_is_named_once_a_row_with_its_first_message() -> None:
    row = chat({**USER, "content": ""}, {**ANSWER, "content": ""})
    assert [(v.rule, v.detail) for v in check_one(row).violations] == [
        (RowRule.CONTENT_EMPTY, 'message 1 (user): content is ""')
    ]


def test_rows_of_two_formats_are_read_side_by_side_and_kept() -> None:
    rows = [source(PLAIN), chat(USER, ANSWER), source(PLAIN)]
    first, second, third = check_rows(rows, row_severities({}))
    assert first.violations == third.violations == ()
    assert [(v.rule, v.detail) for v in second.violations] == [
        (RowRule.MIXED_FORMAT, "messages, the first row is prompt_completion")
    ]
    assert second.conversation is not None
    assert (first.format, second.format) == (RowFormat.PROMPT_COMPLETION, RowFormat.MESSAGES)


def test_first_format_of_the_set_counts_where_it_is_known() -> None:
    assert details(source(PLAIN), RowFormat.MESSAGES) == {
        "mixed_format": "prompt_completion, the first row is messages"
    }
    assert details(source(PLAIN), RowFormat.PROMPT_COMPLETION) == {}


def test_first_row_that_can_be_read_sets_the_format() -> None:
    block = check_rows([source(7), chat(USER, ANSWER), source(PLAIN)], row_severities({}))
    assert {n: [v.rule for v in found] for n, found in block.violations.items()} == {
        0: [RowRule.NOT_AN_OBJECT],
        2: [RowRule.MIXED_FORMAT],
    }
    assert block.blocked == {0}


def test_warn_keeps_the_row_and_off_does_not_look() -> None:
    row = chat(USER, USER, ANSWER)
    rule = RowRule.ROLES_NOT_ALTERNATING
    [warned] = check_rows([row], row_severities({rule: RuleSetting(severity=Severity.WARN)}))
    assert warned.conversation is not None
    assert [v.rule for v in warned.violations] == [rule]
    [passed] = check_rows([row], row_severities({rule: RuleSetting(severity=Severity.OFF)}))
    assert passed.conversation is not None
    assert passed.violations == ()


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[str(case[0]) for case in CASES])
def test_rules_that_are_off_say_nothing(rule: RowRule, bad: SourceRow, good: SourceRow) -> None:
    [checked] = check_rows([bad], dict.fromkeys(RowRule, Severity.OFF))
    assert checked.violations == ()


def test_no_rows_are_a_block_of_nothing() -> None:
    block = check_rows([], row_severities({}))
    assert (list(block), block.violations, block.blocked) == ([], {}, set())


def test_rows_without_a_message_are_a_block_of_violations() -> None:
    block = check_rows([source(1), source([])], row_severities({}))
    assert [row.conversation for row in block] == [None, None]
    assert block.blocked == {0, 1}


def test_switched_off_pandera_refuses_to_run() -> None:
    from pandera.config import config_context

    with config_context(validation_enabled=False):
        with pytest.raises(ConfigError) as caught:
            check_rows([chat(USER, ANSWER)], row_severities({}))
        with pytest.raises(ConfigError, match="switched off"):
            require_pandera()
    assert "PANDERA_VALIDATION_ENABLED" in caught.value.where


def test_schema_only_depth_still_looks_at_the_data() -> None:
    from pandera.config import ValidationDepth, config_context

    with config_context(validation_depth=ValidationDepth.SCHEMA_ONLY):
        assert broken(chat(USER, USER, ANSWER)) == {RowRule.ROLES_NOT_ALTERNATING}
