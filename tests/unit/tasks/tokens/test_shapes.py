"""Nothing of a row is lost in rendering without being named, and nothing is named that is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import AutoTokenizer

from schemas.rows.row import Conversation, RowFormat
from schemas.rule_ids import SetRule
from tasks.chat_template.variants import derive_variant, read_template
from tasks.tokens._shapes import is_in
from tasks.tokens._texts import RowText, TextRenderer
from tests.support.shipped_templates import (
    ANSWER,
    REASONED,
    ROWS,
    TOOL,
    USER,
    WORDS,
    call,
    render_shipped,
    shipped_templates,
)
from tests.support.toy import TOY_TEMPLATE, TOY_TRAINING_TEMPLATE, make_toy_model

CONTENT, FIELD, UNTRAINED = (
    SetRule.CONTENT_NOT_RENDERED,
    SetRule.FIELD_NOT_RENDERED,
    SetRule.TURN_NOT_TRAINED,
)
NOT_IN_TEXT = "is not in the text that the chat template renders"
ARGUMENTS = (
    "function['arguments'] if function['arguments'] is string else "
    "(function['arguments'] or {}) | tojson"
)
QWEN3 = shipped_templates()["qwen3"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = AutoTokenizer.from_pretrained(make_toy_model(tmp_path_factory.mktemp("model")))
    found.add_special_tokens({"bos_token": "<s>"})
    return found


def render(
    tokenizer: Any,
    template: str,
    messages: list[dict[str, Any]],
    tools: list[Any] | None = None,
    **options: Any,
) -> RowText:
    tokenizer.chat_template = template
    row = Conversation("a.jsonl", 1, RowFormat.MESSAGES, messages, tools=tools, **options)
    training = derive_variant(template, "<|im_end|>")
    return TextRenderer(tokenizer, training).render([row])[0]


def words_of(name: str) -> list[str]:
    """List the words that a row has; those of descriptions only where there are tools."""
    text = json.dumps(ROWS[name])
    return [word for word in WORDS if word in text]


@pytest.mark.parametrize("template", shipped_templates())
def test_what_a_shipped_template_leaves_out_is_named(tokenizer: Any, template: str) -> None:
    names = list(ROWS)
    for name, row in zip(
        names, render_shipped(tokenizer, shipped_templates()[template], names), strict=True
    ):
        if row.problem:
            continue
        missing = [word for word in words_of(name) if word not in row.text]
        named = f"{row.findings.get(CONTENT, '')} {row.findings.get(FIELD, '')}"
        for word in missing:
            is_in_more = "tool 1 (find_page)" in named or " more are not in the text" in named
            assert WORDS[word] in named or is_in_more, (name, word, row.findings)
        for kind in set(WORDS.values()) - {WORDS[word] for word in missing}:
            assert f": {kind} {NOT_IN_TEXT}" not in named, (name, kind, row.findings)
        if not missing and "find_page" in row.text:
            assert "not in the text" not in named, (name, row.findings)


def test_chatml_renders_tools_calls_and_results(tokenizer: Any) -> None:
    rows = render_shipped(tokenizer, read_template("chatml"), list(ROWS))
    for name, row in zip(ROWS, rows, strict=True):
        expected = set()
        if "reason" in name:
            expected = {CONTENT}
        if name == "name":
            expected = {FIELD}
        assert (set(row.findings), row.problem) == (expected, ""), (name, row.findings)
    by_name = dict(zip(ROWS, rows, strict=True))
    assert by_name["call, content null"].text == (
        "<|im_start|>system\n# Tools\n\nYou may call one or more functions to assist with the user "
        "query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>"
        f"\n{json.dumps(TOOL)}\n</tools>\n\nFor each function call, return a json object with function "
        "name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nAsk Wombat.<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "find_page", "arguments": {"heading": "Moraine"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nGot Potoroo.\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nSay Numbat.<|im_end|>\n"
    )
    assert "<|im_start|>system\nObey Quokka.<|im_end|>" in by_name["developer"].text


@pytest.mark.parametrize("content", ["", None])
def test_call_without_content_trains_no_empty_answer(tokenizer: Any, content: str | None) -> None:
    tokenizer.chat_template = read_template("chatml")
    row = Conversation("a.jsonl", 1, RowFormat.MESSAGES, [USER, call(content=content)])
    [found] = TextRenderer(tokenizer, read_template("chatml_training")).render([row])
    [(start, end)] = found.spans
    assert found.text[start:end] == (
        '<tool_call>\n{"name": "find_page", "arguments": {"heading": "Moraine"}}\n</tool_call><|im_end|>'
    )
    tokenizer.chat_template = TOY_TRAINING_TEMPLATE
    [found] = TextRenderer(tokenizer, TOY_TRAINING_TEMPLATE).render([row])
    assert found.problem == ""  # null would be a TypeError
    assert found.findings == {CONTENT: f"message 2: tool_calls (find_page) {NOT_IN_TEXT}"}


def test_short_values_are_found_lost_although_they_occur_elsewhere(tokenizer: Any) -> None:
    arguments = {"page": 7, "word": "tall", "deep": {"is_exact": True}}
    calling = call(content="One moment.")
    calling["tool_calls"][0]["function"] = {"name": "find", "arguments": arguments}
    user = {"role": "user", "content": "find: on page 7, how tall? deep is_exact"}
    row = render(tokenizer, TOY_TEMPLATE, [user, calling])
    assert row.findings == {CONTENT: f"message 2: tool_calls (find) {NOT_IN_TEXT}"}
    only_names = read_template("chatml").replace(ARGUMENTS, "''")
    row = render(tokenizer, only_names, [user, calling])
    assert row.findings[CONTENT].startswith(
        "message 2: tool_calls (find), argument page; message 2"
    )


def test_fields_and_their_places_are_named(tokenizer: Any) -> None:
    row = render(tokenizer, read_template("chatml"), [USER, REASONED])
    assert row.findings == {CONTENT: f"message 2: reasoning_content {NOT_IN_TEXT}"}
    named: list[dict[str, Any]] = [
        {**USER, "name": "Ann", "refusal": None, "id": "7"},
        {**ANSWER, "mood": "calm"},
    ]
    row = render(tokenizer, read_template("chatml"), named)
    assert row.findings == {FIELD: "message 1: name; message 2: mood are " + NOT_IN_TEXT[3:]}


def test_details_of_a_lost_tool_are_not_named_again(tokenizer: Any) -> None:
    row = render(tokenizer, TOY_TEMPLATE, [USER, ANSWER], [TOOL])
    assert row.findings == {CONTENT: f"tool 1 (find_page) {NOT_IN_TEXT}"}


def test_reasoning_of_earlier_turns_is_left_out_as_in_inference(tokenizer: Any) -> None:
    turns: list[dict[str, Any]] = [
        USER,
        REASONED,
        {"role": "user", "content": "And?"},
        {**REASONED, "content": "No."},
    ]
    row = render(tokenizer, QWEN3, turns)
    assert row.findings == {
        FIELD: f"message 2: reasoning_content {NOT_IN_TEXT}",
        UNTRAINED: "message 2 is shown, not trained",
    }
    [(start, end)] = row.spans
    assert row.text[start:end] == "<think>\nThink Bandicoot.\n</think>\n\nNo.<|im_end|>"
    row = render(tokenizer, QWEN3, turns, n_prompt_messages=3)
    assert set(row.findings) == {FIELD}
    weighted: list[dict[str, Any]] = [USER, {**REASONED, "weight": 0}, *turns[2:]]
    assert set(render(tokenizer, QWEN3, weighted).findings) == {FIELD}


def test_turn_without_reasoning_is_trained_where_earlier_turns_have_none(tokenizer: Any) -> None:
    turns: list[dict[str, Any]] = [USER, ANSWER, {"role": "user", "content": "And?"}, REASONED]
    row = render(tokenizer, QWEN3, turns)
    assert row.findings == {}
    assert [row.text[start:end] for start, end in row.spans] == [
        "Say Numbat.<|im_end|>",
        "<think>\nThink Bandicoot.\n</think>\n\nSay Numbat.<|im_end|>",
    ]


@pytest.mark.parametrize("name", ["reasoning", "thinking"])
def test_reasoning_takes_the_name_that_the_template_reads(tokenizer: Any, name: str) -> None:
    row = render(tokenizer, QWEN3, [USER, {**ANSWER, name: "Think Bandicoot."}])
    assert row.findings == {}
    assert "<think>\nThink Bandicoot.\n</think>" in row.text
    both = {**REASONED, "reasoning": REASONED["reasoning_content"]}
    assert render(tokenizer, QWEN3, [USER, both]).findings == {}


def test_developer_is_the_system_where_the_template_does_not_know_it(tokenizer: Any) -> None:
    developer = {"role": "developer", "content": "Obey Quokka."}
    silent = "{% for m in messages if m.role != 'developer' %}{{ m.role ~ m.content }}{% endfor %}"
    assert render(tokenizer, silent, [developer, USER, ANSWER]).text.startswith("systemObey")
    generic = "{% for m in messages %}{{ m.role ~ m.content }}{% endfor %}"
    assert render(tokenizer, generic, [developer, USER, ANSWER]).text.startswith("developerObey")


@pytest.mark.parametrize(
    "template",
    [
        # As Gemma: the system message moves into the first user turn, the assistant is the model.
        "{% for m in messages if m.role != 'system' %}"
        "{{ ('model' if m.role == 'assistant' else m.role) ~ '|' }}"
        "{% if m.role == 'user' and messages[0].role == 'system' and loop.first %}"
        "{{ messages[0].content }}{% endif %}{{ m.content | trim }}{{ '<|im_end|>' }}{% endfor %}",
        "{% for m in messages %}{{ m.role ~ (m.content | tojson) ~ '<|im_end|>' }}{% endfor %}",
        "{% for m in messages %}{{ m.role ~ (m.content | escape) ~ '<|im_end|>' }}{% endfor %}",
        "{% for m in messages %}{{ m.role ~ ' '.join(m.content.split()) ~ '<|im_end|>' }}{% endfor %}",
    ],
    ids=["moves the system", "escapes JSON", "escapes HTML", "joins lines"],
)
def test_legal_templates_lose_nothing(tokenizer: Any, template: str) -> None:
    messages = [
        {"role": "system", "content": "Be  brief"},
        {"role": "user", "content": '\n a "quote" < ö\n\tnext  line \n'},
        {"role": "assistant", "content": "x"},
    ]
    row = render(tokenizer, template, messages)
    assert (row.findings.get(CONTENT), row.findings.get(FIELD), row.problem) == (None, None, "")


def test_content_that_a_template_cuts_is_named(tokenizer: Any) -> None:
    short = read_template("chatml").replace(
        "message['content'] or ''", "(message['content'] or '')[:40]"
    )
    long = {"role": "assistant", "content": "word " * 20}
    row = render(tokenizer, short, [USER, long])
    assert row.findings == {CONTENT: f"message 2: content {NOT_IN_TEXT}"}
    assert render(tokenizer, short, [USER, ANSWER]).findings == {}


def test_role_that_is_written_like_the_users_is_named(tokenizer: Any) -> None:
    forgetful = (
        "{% for m in messages %}{{ 'bot' if m.role == 'assistant' else 'you' }}{{ m.content }}"
        "{{ '<|im_end|>' }}{% endfor %}"
    )
    row = render(tokenizer, forgetful, [{"role": "system", "content": "Obey"}, USER, ANSWER])
    assert row.findings.get(FIELD) == f"message 1: role system {NOT_IN_TEXT}"


def test_call_that_is_rendered_but_not_marked_is_named(tokenizer: Any) -> None:
    tokenizer.chat_template = read_template("chatml")
    beside = read_template("chatml_training").replace(
        "{{- message['content'] or '' -}}\n",
        "{{- message['content'] or '' -}}{%- endgeneration -%}",
    )
    beside = beside.replace(
        "{{- '<|im_end|>' -}}\n{%- endgeneration", "{%- generation -%}<|im_end|>{%- endgeneration"
    )
    row = Conversation("a.jsonl", 1, RowFormat.MESSAGES, [USER, call(content="Look:")])
    [found] = TextRenderer(tokenizer, beside).render([row])
    assert found.findings[CONTENT].startswith("message 2: tool_calls (find_page)")
    assert found.findings[CONTENT].endswith("rendered, but not trained")


def test_arguments_become_text_for_a_template_that_wants_text(tokenizer: Any) -> None:
    wants_text = read_template("chatml").replace(ARGUMENTS, "'' + function['arguments']")
    row = render(tokenizer, wants_text, [USER, call(content="")])
    assert row.findings == {}
    assert '"arguments": {"heading": "Moraine"}}' in row.text


def test_bare_tools_are_written_as_a_server_gives_them(tokenizer: Any) -> None:
    row = render(tokenizer, read_template("chatml"), [USER, ANSWER], [TOOL["function"]])
    assert json.dumps(TOOL) in row.text


def test_is_in_looks_through_escapes_and_white_space() -> None:
    assert is_in(" a\nb ", '"a\\nb"')
    assert is_in("ä", '"\\u00e4"')
    assert is_in("a  b\nc", "a b c")
    assert is_in("a < b", "a &lt; b")
    assert not is_in("a b", "ab")


def test_prompt_that_closes_an_empty_thought_is_named_as_the_reason(tokenizer: Any) -> None:
    closed = "{%- set enable_thinking = false -%}" + QWEN3
    asked = {"role": "user", "content": "Ask Wombat."}
    thought = {"role": "assistant", "content": "Say Numbat.", "reasoning_content": "Because."}
    row = render(tokenizer, closed, [asked, thought])
    for rule in (UNTRAINED, SetRule.NO_SUPERVISED_TOKENS):
        assert "set template.kwargs={enable_thinking: true}" in row.findings[rule]
    answer = {"role": "assistant", "content": "Say Numbat."}
    assert render(tokenizer, closed, [asked, answer]).findings == {}
    assert render(tokenizer, QWEN3, [asked, thought]).findings == {}


def test_prompt_that_opens_a_thought_is_named_as_the_reason(tokenizer: Any) -> None:
    opened = shipped_templates()["nemotron_3_nano"]
    asked = {"role": "user", "content": "Ask Wombat."}
    answer = {"role": "assistant", "content": "Say Numbat."}
    row = render(tokenizer, opened, [asked, answer])
    assert "{enable_thinking: false}" in row.findings[SetRule.NO_SUPERVISED_TOKENS]
    assert render(tokenizer, opened, [asked, {**answer, "reasoning_content": "So."}]).findings == {}
    closed = "{%- set enable_thinking = false -%}" + opened
    assert render(tokenizer, closed, [asked, answer]).findings == {}
