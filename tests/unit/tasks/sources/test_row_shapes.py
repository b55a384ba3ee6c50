from __future__ import annotations

from typing import Any

import pytest

from tasks.sources._row_shapes import is_list_of_rows, is_row

PAIR = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PAIR, True),
        ({"messages": [{"role": "user", "content": "a"}], "id": "1"}, True),
        ({"conversations": [{"from": "human", "value": "a"}]}, True),
        ({"chat": [{"role": "user", "content": "a"}]}, True),
        ({"Question": "a", "Answer": "b"}, True),
        ({"question": "a"}, False),
        ({"prompt": ["a"], "completion": ["b"]}, False),
        ({"author": "x"}, False),
        ([PAIR], False),
        ("text", False),
    ],
)
def test_what_looks_like_a_row(value: Any, expected: bool) -> None:
    assert is_row(value) is expected
    assert is_list_of_rows([value]) is expected
    assert not is_list_of_rows([])
