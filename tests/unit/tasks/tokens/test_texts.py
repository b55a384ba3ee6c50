from __future__ import annotations

from datetime import datetime
from typing import Any

import polars
import pytest
import xxhash
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from schemas.rows.row import Conversation, RowFormat
from schemas.rule_ids import SetRule
from tasks.chat_template.variants import without_markers
from tasks.rows.features import normalised, text_hashes
from tasks.tokens._texts import (
    TextRenderer,
    answer_text,
    last_answer_index,
    without_weights,
)
from tests.support.toy import make_toy_model

MARKED = (
    "{%- if tools -%}{{ tools | length | string + ' tools\n' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ message['role'] + ':' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + '.' }}{%- endgeneration -%}"
    "{%- else -%}{{ message['content'] + '.' }}{%- endif -%}"
    "{%- if 'weight' in message -%}WEIGHT{%- endif -%}"
    "{%- endfor -%}"
)
PLAIN = (
    "{%- for message in messages -%}{{ message['role'] + ':' + message['content'] + '.' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}assistant:{%- endif -%}"
)
TWO_TURNS = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
]

CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "How  tall?"},
    {"role": "assistant", "content": "Two metres."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    found = AutoTokenizer.from_pretrained(make_toy_model(tmp_path_factory.mktemp("model")))
    found.chat_template = PLAIN
    return found


def chat(messages: list[dict[str, Any]], n_prompt_messages: int | None = None) -> Conversation:
    return Conversation("a.jsonl", 1, RowFormat.MESSAGES, messages, n_prompt_messages)


def test_text_marks_and_prompt_come_from_the_two_templates(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    [row] = TextRenderer(tokenizer, MARKED).render([chat(TWO_TURNS)])
    assert row.text == "user:a.assistant:b.user:c.assistant:d."
    assert [row.text[start:end] for start, end in row.spans] == ["b.", "d."]
    assert row.prompt == "user:a.assistant:b.user:c.assistant:"
    assert not row.is_completion_only
    [row] = TextRenderer(tokenizer, MARKED).render([chat(TWO_TURNS, 1)])
    assert (row.prompt, row.is_completion_only) == ("user:a.assistant:", True)


def test_row_with_tools_is_rendered_with_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    with_tools = chat(TWO_TURNS)
    with_tools.tools = [{"type": "function"}]
    rows = TextRenderer(tokenizer, MARKED).render([chat(TWO_TURNS), with_tools])
    assert rows[1].text == "1 tools\n" + rows[0].text


def test_refused_rows_do_not_spoil_their_neighbours(tokenizer: PreTrainedTokenizerBase) -> None:
    answer_only = chat([{"role": "assistant", "content": "b"}])
    half_a_pair = chat([{"role": "user", "content": "\ud83d"}, *TWO_TURNS[1:2]])
    number = chat([{"role": "user", "content": 7}, *TWO_TURNS[1:2]])
    rows = TextRenderer(tokenizer, MARKED).render(
        [chat(TWO_TURNS), answer_only, half_a_pair, number, chat(TWO_TURNS)]
    )
    assert rows[0] == rows[4]
    assert rows[0].problem == ""
    assert "begins with its answer" in rows[1].problem
    assert "surrogates not allowed" in rows[2].problem
    assert rows[3].problem
    assert [row.text for row in rows[1:4]] == ["", "", ""]


def test_weight_does_not_reach_the_template(tokenizer: PreTrainedTokenizerBase) -> None:
    weighted = [{**message, "weight": 1} for message in TWO_TURNS]
    rows = TextRenderer(tokenizer, MARKED).render([chat(weighted), chat(TWO_TURNS)])
    assert rows[0] == rows[1]
    assert without_weights(weighted) == TWO_TURNS
    assert without_weights(TWO_TURNS) is TWO_TURNS


def test_templates_read_the_frozen_clock(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = "{{ strftime_now('%d %b %Y') }}" + MARKED
    monkeypatch.setattr(tokenizer, "chat_template", without_markers(dated))
    first, second = (
        TextRenderer(tokenizer, dated, day).render([chat(TWO_TURNS)])[0]
        for day in ("2024-07-26", "2025-12-31")
    )
    assert first.text.startswith("26 Jul 2024")
    assert first.prompt.startswith("26 Jul 2024")
    assert second.text == first.text.replace("26 Jul 2024", "31 Dec 2025")
    assert second.prompt == first.prompt.replace("26 Jul 2024", "31 Dec 2025")
    today = TextRenderer(tokenizer, dated).render([chat(TWO_TURNS)])[0]
    assert datetime.now().strftime("%Y") in today.text


def test_turn_that_the_template_does_not_mark_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    last_only = MARKED.replace("== 'assistant' -%}", "== 'assistant' and loop.last -%}")
    [row] = TextRenderer(tokenizer, last_only).render([chat(TWO_TURNS)])
    assert row.findings == {SetRule.TURN_NOT_TRAINED: "message 2 is shown, not trained"}
    weighted: list[dict[str, Any]] = [dict(message) for message in TWO_TURNS]
    weighted[1]["weight"] = 0
    [row] = TextRenderer(tokenizer, last_only).render([chat(weighted)])
    assert (row.findings, row.problem) == ({}, "")
    assert [row.text[start:end] for start, end in row.spans] == ["d."]


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


def test_row_whose_answers_all_have_weight_0_says_so(tokenizer: PreTrainedTokenizerBase) -> None:
    silent = [{**m, "weight": 0} if m["role"] == "assistant" else m for m in TWO_TURNS]
    rows = TextRenderer(tokenizer, MARKED).render([chat(silent), chat([*silent[:3], TWO_TURNS[3]])])
    assert [list(row.findings) for row in rows] == [[SetRule.NO_SUPERVISED_TOKENS], []]
    assert rows[0].findings[SetRule.NO_SUPERVISED_TOKENS].startswith("every answer has weight 0")
