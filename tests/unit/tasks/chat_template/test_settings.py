"""`template.kwargs` become defaults of the template's variables, in every renderer."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import TemplateError
from tasks.chat_template._settings import split_settings, write_settings
from tasks.chat_template.setup import choose_variant
from tasks.chat_template.variants import derive_variant
from tests.support.shipped_templates import shipped_templates
from tests.support.toy import make_toy_model

TEMPLATE = (
    "\n\n begin {%- macro effort_of() -%}{{ effort }}{%- endmacro -%}"
    "{{ effort_of() }}|{{ effort }}{% for m in messages %}|{{ effort }}:{{ m.content }}{% endfor %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(make_toy_model(tmp_path_factory.mktemp("models") / "toy"))


def render(tokenizer: Any, template: str, **options: Any) -> str:
    messages = [{"role": "user", "content": "a"}]
    return str(
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
    )


@pytest.mark.parametrize(
    "value", ["low", "a \"b\" 'c' %} {# ö 😀\n", 3, 0.5, True, False, None, ["x", 1], {"k": [None]}]
)
def test_settings_are_what_the_variables_would_be(tokenizer: Any, value: Any) -> None:
    settings = write_settings({"effort": value}, TEMPLATE)
    for template in (TEMPLATE, TEMPLATE.lstrip()):
        expected = render(tokenizer, template, effort=value)
        assert render(tokenizer, settings + template) == expected
        derived = derive_variant(template, "<|im_end|>")
        assert render(tokenizer, settings + derived) == expected


def test_request_may_still_set_a_variable_itself(tokenizer: Any) -> None:
    template = write_settings({"effort": "low"}, TEMPLATE) + TEMPLATE
    assert render(tokenizer, template, effort="high") == render(tokenizer, TEMPLATE, effort="high")


def test_without_values_nothing_is_written() -> None:
    assert write_settings({}, TEMPLATE) == ""
    settings = write_settings({"effort": "low"}, TEMPLATE)
    assert split_settings(settings + TEMPLATE) == (settings, TEMPLATE)
    assert split_settings(TEMPLATE) == ("", TEMPLATE)


def test_variable_that_the_template_does_not_read_is_refused() -> None:
    with pytest.raises(TemplateError, match="does not read mood") as caught:
        write_settings({"mood": "calm", "effort": "low"}, TEMPLATE)
    assert caught.value.expected == "variables of the template: effort"


def test_set_up_writes_settings_into_both_templates(tokenizer: Any) -> None:
    tokenizer.chat_template = shipped_templates()["qwen3"]
    training, stop = choose_variant(tokenizer, None, {"enable_thinking": False})
    assert stop == "<|im_end|>"
    asked = render(tokenizer, tokenizer.chat_template, add_generation_prompt=True)
    assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert render(tokenizer, training, add_generation_prompt=True) == asked
    # A model that was trained with settings keeps them, or takes new ones in their place.
    first = tokenizer.chat_template
    choose_variant(tokenizer, None)
    assert tokenizer.chat_template == first
    choose_variant(tokenizer, None, {"enable_thinking": True})
    assert tokenizer.chat_template.count("template.kwargs #}{%") == 1
    assert render(tokenizer, tokenizer.chat_template, add_generation_prompt=True).endswith(
        "assistant\n"
    )
