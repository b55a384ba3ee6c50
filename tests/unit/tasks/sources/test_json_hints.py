from __future__ import annotations

import json

import pytest

from tasks.sources._json_hints import find_hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"a": 1, // one\n"b": 2}', "a comment"),
        ('{"a": 1 # one\n}', "a comment"),
        ('{"a": [1, 2, ]}', "a comma before the closing bracket"),
        ('{"a": 1 , }', "a comma before the closing bracket"),
        ("{'a': 1}", "single quotes"),
        ("{\"a\": 'b'}", "single quotes"),
        ('{"a": True}', "True is no JSON value"),
        ('{"a": nan}', "nan is no JSON value"),
        ("{a: 1}", "a name without quotes"),
        ('{"a": 1 "b": 2}', ""),
        ('{"a": }', ""),
        ('{"a": Trueish}', ""),
    ],
)
def test_error_is_explained_where_the_parser_stops(text: str, hint: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    found = find_hint(text, caught.value.pos)
    assert found.startswith(hint) if hint and " is " in hint else hint in found
    assert bool(found) is bool(hint)


def test_position_beyond_the_text_has_no_hint() -> None:
    assert find_hint('{"a": ', 6) == ""
