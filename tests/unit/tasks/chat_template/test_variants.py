"""Training variants render the very text of their inference template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.chat_template.contract import supervised_tokens
from tasks.chat_template.probes import make_probes
from tasks.chat_template.variants import (
    KNOWN_VARIANTS,
    candidate_variants,
    derive_variant,
    freeze_clock,
    has_markers,
    read_template,
    reads_clock,
    template_sha256,
    without_markers,
)
from tests.support.shipped_templates import shipped_templates
from tests.support.toy import TOY_TEMPLATE, make_toy_model

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKING = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' }}\n"
    "    {%- if message.role == 'assistant' and loop.last %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n"
    "    {{- message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)
"""Renders earlier answers otherwise than the last, as Qwen3 does."""
EDGE = [
    {"role": "user", "content": "  blanks {{ messages }} <|im_end|> "},
    {"role": "assistant", "content": "\n a  \n\n"},
    {"role": "user", "content": "ö"},
    {"role": "assistant", "content": ""},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(make_toy_model(tmp_path_factory.mktemp("models") / "toy"))


def render(tokenizer: Any, template: str, messages: list[Any], **options: Any) -> str:
    return str(
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
    )


@pytest.mark.parametrize(
    ("inference", "training"),
    [
        (read_template("chatml"), read_template("chatml_training")),
        (SMOLLM2, read_template("smollm2_training")),
        (read_template("chatml"), without_markers(read_template("chatml_training"))),
        (SMOLLM2, derive_variant(SMOLLM2, "<|im_end|>")),
        (TOY_TEMPLATE, derive_variant(TOY_TEMPLATE, "<|im_end|>")),
        (THINKING, derive_variant(THINKING, "<|im_end|>")),
    ],
    ids=["chatml", "smollm2", "without markers", "derived", "derived toy", "derived thinking"],
)
def test_training_variant_renders_the_same_text(
    tokenizer: Any, inference: str, training: str
) -> None:
    conversations = [list(probe.messages) for probe in make_probes()] + [EDGE, EDGE[:1]]
    for messages in conversations:
        for is_prompt in (False, True):
            expected = render(tokenizer, inference, messages, add_generation_prompt=is_prompt)
            actual = render(tokenizer, training, messages, add_generation_prompt=is_prompt)
            assert actual == expected


def test_chatml_renders_by_hand(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    assert render(tokenizer, read_template("chatml"), messages) == text


@pytest.mark.parametrize(
    "training",
    [
        read_template("chatml_training"),
        read_template("smollm2_training"),
        derive_variant(TOY_TEMPLATE, "<|im_end|>"),
    ],
)
def test_answers_and_their_stop_tokens_are_marked(tokenizer: Any, training: str) -> None:
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"},
        {"role": "assistant", "content": "b"},
    ]
    ids, mask = supervised_tokens(tokenizer, messages, training)
    marked = [token for token, is_marked in zip(ids, mask, strict=True) if is_marked]
    assert tokenizer.decode(marked) == "a<|im_end|>b<|im_end|>"


def test_derived_variant_marks_answers_that_a_later_turn_shortens(tokenizer: Any) -> None:
    messages = [dict(message) for message in make_probes()[1].messages]
    ids, mask = supervised_tokens(tokenizer, messages, derive_variant(THINKING, "<|im_end|>"))
    marked = [token for token, is_marked in zip(ids, mask, strict=True) if is_marked]
    assert tokenizer.decode(marked) == (
        "Two metres at most.<|im_end|><think>\n\n</think>\n\nYour local council.<|im_end|>"
    )


def test_derived_variant_leaves_unmarked_what_it_cannot_place(tokenizer: Any) -> None:
    backwards = "{% for m in messages | reverse %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    messages = [dict(message) for message in make_probes()[0].messages]
    _, mask = supervised_tokens(tokenizer, messages, derive_variant(backwards, "<|im_end|>"))
    assert not any(mask)


def test_without_markers_keeps_the_control_of_white_space() -> None:
    text = "a {%- generation -%} b {%- endgeneration %} c"
    assert without_markers(text) == "a {%- if true -%} b {%- endif %} c"
    assert has_markers(text)
    assert not has_markers(without_markers(text))


def test_known_variant_is_found_by_the_text_of_the_template(tokenizer: Any) -> None:
    assert KNOWN_VARIANTS[template_sha256(SMOLLM2)] == "smollm2_training"
    former = tokenizer.chat_template
    tokenizer.chat_template = SMOLLM2
    names = [name for name, _ in candidate_variants(tokenizer)]
    tokenizer.chat_template = former
    assert names == ["smollm2_training", "derived"]


def test_trl_variant_comes_first(tokenizer: Any) -> None:
    import trl

    former = tokenizer.chat_template
    folder = Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (folder / "qwen2_5.jinja").read_text(encoding="utf-8")
    name, variant = next(candidate_variants(tokenizer))
    tokenizer.chat_template = former
    assert name == "TRL"
    assert variant == (folder / "qwen2_5_training.jinja").read_text(encoding="utf-8")


def test_the_clock_is_frozen_and_nothing_else_changes() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    def rendered(template: str, day: str) -> str:
        frozen, variables = freeze_clock(template, day)
        chat = [{"role": "user", "content": "a"}]
        return str(render_jinja_template([chat], chat_template=frozen, **variables)[0][0])

    dated = "\n  {%- set today = strftime_now('%d %b') %}\n  {{ today }} {{ strftime_now('%Y') }}"
    assert reads_clock(dated)
    assert rendered(dated, "2024-02-29") == "  29 Feb 2024"
    for plain in ("\n  {% if true %}\n x{% endif %}", "  y", TOY_TEMPLATE):
        assert freeze_clock(plain, "2024-02-29") == (plain, {})
        now = f"{{{{ strftime_now('') }}}}{plain}"
        assert rendered(now, "2024-02-29") == rendered(now, "") == rendered(plain, "")
    assert freeze_clock(dated, "") == (dated, {})
    names = {name for name, template in shipped_templates().items() if reads_clock(template)}
    assert {"llama3_2", "gptoss"} <= names
