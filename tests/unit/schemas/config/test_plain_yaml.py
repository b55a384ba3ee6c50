from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.config.plain_yaml import YamlError, parse_yaml, yaml_text


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


def laughs(first: str, again: str, n_levels: int = 9) -> str:
    """Write ten lines of aliases that stand for a thousand million values."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {again.replace('*', f'*a{n - 1}')}" for n in range(1, n_levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        laughs("[x, x, x]", "[*, *, *, *, *, *, *, *, *]"),
        laughs("{k: x}", "{a: *, b: *, c: *, d: *, e: *, f: *, g: *, h: *, i: *}"),
    ],
)
def test_aliases_that_multiply_are_refused(text: str) -> None:
    with pytest.raises(YamlError, match=r"100,000 values.*\n.*line [56],"):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]", "&a\na: *a", "a: &a\n  b: *a", "&a\n<<: *a\nb: 1", "a: &a {b: {c: [*a]}}"],
)
def test_alias_within_what_it_refers_to_is_refused(text: str) -> None:
    with pytest.raises(YamlError, match="part of what it refers to"):
        parse_yaml(text)


def test_aliases_and_merge_keys_that_people_write_are_read() -> None:
    text = (
        "base: &base {r: 8, alpha: 16}\nmine:\n  <<: *base\n  r: 4\nlist: &l [1]\nagain: [*l, *l]"
    )
    read = parse_yaml(text)
    assert read["mine"] == {"r": 4, "alpha": 16}
    assert read["again"] == [[1], [1]]
    with pytest.raises(YamlError, match="&a is there twice"):
        parse_yaml("[&a 1, &a 2, *a]")


@pytest.mark.parametrize("text", ["[" * 51 + "]" * 51, "[" * 100_000, "{a: " * 51 + "1" + "}" * 51])
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(YamlError, match="nested more than 50 levels"):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!own 1",
        "!!int abc",
        "!!bool abc",
        "!!pairs 3",
        "9" * 5000,
        "*nothing",
        "a\0b",
    ],
)
def test_value_that_is_no_plain_one_is_an_error_of_yaml(text: str) -> None:
    with pytest.raises(YamlError):
        parse_yaml(text)
