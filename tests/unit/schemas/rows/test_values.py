from __future__ import annotations

from typing import Any

import pytest

from schemas.rows.values import (
    as_objects,
    bare_name,
    is_blank,
    is_nothing,
    keys_shown,
    kind_name,
    shown,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        ("", True),
        (" \n", True),
        ([], True),
        ({}, True),
        ("a", False),
        ([1], False),
        (0, False),
        (False, False),
    ],
)
def test_blank_is_null_white_space_or_empty(value: Any, expected: bool) -> None:
    assert is_blank(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, True), ([], True), (" NaN\n", True), ("null", True), ("nano", False), (0, False)],
)
def test_nothing_is_blank_or_names_an_empty_cell(value: Any, expected: bool) -> None:
    assert is_nothing(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "a boolean"),
        (2, "a number"),
        (0.5, "a number"),
        ("x", "a text"),
        ([], "a list"),
        ({}, "an object"),
    ],
)
def test_kinds_are_named_as_json_names_them(value: Any, expected: str) -> None:
    assert kind_name(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (False, "false"),
        (3, "3"),
        (" \n", '" \\n"'),
        ("größe", '"größe"'),
        ([], "an empty list"),
        ({}, "an empty object"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        ("x" * 40, '"' + "x" * 40 + '"'),
        ("x" * 50, '"' + "x" * 39 + '…"'),
    ],
)
def test_values_are_shown_short_and_on_one_line(value: Any, expected: str) -> None:
    assert shown(value) == expected


def test_keys_are_listed_up_to_a_number() -> None:
    assert keys_shown({}) == "none"
    assert keys_shown({"a": 1, "b" * 50: 2}) == "a, " + "b" * 40
    assert keys_shown(dict.fromkeys("abcdefgh")) == "a, b, c, d, e, f, g, h"
    assert keys_shown(dict.fromkeys("abcdefghi")) == "a, b, c, d, e, f, g, h…"


def test_names_are_compared_without_their_spelling() -> None:
    names = ("systemPrompt", "system_prompt", "System Prompt", "system-prompt")
    assert {bare_name(name) for name in names} == {"systemprompt"}


def test_objects_are_read_from_lists_single_objects_and_json_text() -> None:
    given: list[Any] = [[{"a": 1}], {"a": 1}, '[{"a": 1}]', '{"a": 1}']
    for value in given:
        assert as_objects(value) == [{"a": 1}]
    others: list[Any] = [None, "a", 3, [1], [{"a": 1}, 2], "[1]"]
    for value in others:
        assert as_objects(value) == []
