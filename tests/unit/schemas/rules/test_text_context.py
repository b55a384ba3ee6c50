from __future__ import annotations

import pytest

from schemas.rows.row import SourceRow
from schemas.rule_ids import RowRule
from schemas.rules.check_rows import check_rows
from schemas.rules.row_rules import row_severities


def broken(prompt: str, answer: str) -> set[RowRule]:
    row = SourceRow("a.jsonl", 1, {"prompt": prompt, "completion": answer})
    (checked,) = check_rows([row], row_severities({}))
    return {found.rule for found in checked.violations}


ASKED_FOR = [
    (
        "Write a Jinja loop.",
        RowRule.UNRENDERED_PLACEHOLDER,
        "{% for x in xs %}{{ x.name }}{% endfor %}",
    ),
    ("Write an e-mail template.", RowRule.UNRENDERED_PLACEHOLDER, "Dear {{ customer }},"),
    ("Escape this for HTML.", RowRule.HTML_ENTITIES, "&quot;a&quot; &amp; b"),
    ("Encode this for a URL.", RowRule.ESCAPED_LINE_BREAKS, "a%20b%20c%20d%20e%20f%20g"),
    ("What is its name, or None?", RowRule.MISSING_VALUE_TEXT, "None"),
    (
        "Write a dialogue.",
        RowRule.ANSWER_BOUNDARY,
        "Sure, it goes on.\nHuman: Hi\nAssistant: Hello",
    ),
    ("Go on:\n```python\nx =", RowRule.ANSWER_BOUNDARY, " 1\n```\nThat is all."),
    ("How tall?<think>\n", RowRule.UNBALANCED_THOUGHT, "Well.</think>Two."),
]


@pytest.mark.parametrize(("prompt", "rule", "answer"), ASKED_FOR)
def test_what_the_prompt_asks_for_is_no_damage(prompt: str, rule: RowRule, answer: str) -> None:
    assert broken(prompt, answer) == set()
    assert broken("How tall is the wall?", answer) == {rule}


def test_only_answers_are_excused() -> None:
    assert broken("Escape this: &quot;a&quot;.", "Two metres.") == {RowRule.HTML_ENTITIES}


def test_dialogues_may_not_break_off() -> None:
    assert broken("Write a dialogue.", "```\nHuman: Hi") == {RowRule.ANSWER_BOUNDARY}


def test_code_that_the_prompt_closed_excuses_no_open_fence() -> None:
    assert broken("Explain:\n```python\nx\n```\nHow?", " 1\n```\nThat is all.") == {
        RowRule.ANSWER_BOUNDARY
    }


def test_any_earlier_turn_excuses() -> None:
    turns = ["Something for helm", "Of what kind?", "A name.", "{{ .Values.name }}"]
    roles = ["user", "assistant"] * 2
    messages = [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]
    row = SourceRow("a.jsonl", 1, {"messages": messages})
    (checked,) = check_rows([row], row_severities({}))
    assert not checked.violations


def test_rules_on_answers_do_not_count_in_prompts() -> None:
    assert broken("### Input:\nx\n\n### Response:\n", "Two metres.") == set()


def test_a_call_follows_a_thought() -> None:
    call = {"type": "function", "function": {"name": "run", "arguments": "{}"}}
    thought = {"role": "assistant", "content": "<think>x</think>"}
    rows = [
        {"messages": [{"role": "user", "content": "Run it."}, {**thought, **more}]}
        for more in ({}, {"tool_calls": [call]})
    ]
    block = check_rows([SourceRow("a", 1, row) for row in rows], row_severities({}))
    rules = [{found.rule for found in checked.violations} for checked in block]
    assert RowRule.ANSWER_BOUNDARY in rules[0]
    assert RowRule.ANSWER_BOUNDARY not in rules[1]
