from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.config.plain_yaml import parse_yaml, yaml_text


def test_yaml_words_and_numbers_are_read_as_meant() -> None:
    text = "[off, on, yes, no, true, 5e-4, 1E3, .5, 2024-01-01, null, 1:30, 012]"
    expected = ["off", "on", "yes", "no", True, 5e-4, 1e3, 0.5, "2024-01-01", None, "1:30", 12]
    assert parse_yaml(text) == expected


@pytest.mark.parametrize("text", ["faq-en.csv", "./data", "/a/b.csv", "q"])
def test_plain_text_is_written_without_quotes(text: str) -> None:
    assert yaml_text(text) == text


@settings(deadline=None)
@example("5e-4")
@example("off")
@example("null")
@example("~")
@example("a: b, #c")
@example("..")
@example("a\x85b\u2028c\ud7ff")
@given(st.text(max_size=300))
def test_any_text_is_read_back_from_its_line(text: str) -> None:
    written = yaml_text(text)
    assert len(written.splitlines()) == 1
    assert parse_yaml(f"{{a: {written}, b: [{written}]}}  # c") == {"a": text, "b": [text]}
    assert yaml.safe_load(f"a: {written}") == {"a": text}
