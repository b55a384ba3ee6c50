from __future__ import annotations

import polars
import pytest

from schemas.texts.placeholders import PLACEHOLDER_HINT, find_placeholder


@pytest.mark.parametrize(
    "text", ["Summarise.\n\nText: {text}", "{instruction}", "Answer this: {question}"]
)
def test_fields_of_a_prompt_are_found_in_prompts_only(text: str) -> None:
    assert find_placeholder(text).startswith("{")
    assert find_placeholder(text, is_prompt=False) == ""
    assert polars.Series([text]).str.contains(PLACEHOLDER_HINT).item()


@pytest.mark.parametrize(
    "text",
    [
        "print(f'{text}') and {text} ",
        "Use `{text}` or\n```\n{text}\n```",
        "The variable {input} is a set",
        r"\\text{text} is \\frac {input}",
        "{name} and {0}",
        "f(x) = {input}",
    ],
)
def test_names_in_braces_are_legal_in_code(text: str) -> None:
    assert find_placeholder(text) == ""


def test_double_braces_count_in_answers_too() -> None:
    assert find_placeholder("Dear {{name}},", is_prompt=False) == "{{name}}"
