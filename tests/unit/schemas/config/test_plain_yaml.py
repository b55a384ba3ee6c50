from __future__ import annotations

from schemas.config._plain_yaml import parse_yaml


def test_yaml_words_and_numbers_are_read_as_meant() -> None:
    text = "[off, on, yes, no, true, 5e-4, 1E3, .5, 2024-01-01, null]"
    expected = ["off", "on", "yes", "no", True, 5e-4, 1e3, 0.5, "2024-01-01", None]
    assert parse_yaml(text) == expected
