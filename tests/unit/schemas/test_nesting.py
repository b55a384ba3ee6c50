from __future__ import annotations

from typing import Any

from schemas.nesting import is_deep


def test_depth_counts_levels() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    assert not is_deep(value, 200)
    assert is_deep({"a": value}, 200)


def test_depth_of_a_value_far_beyond_pythons_stack_is_found() -> None:
    value: Any = []
    for _ in range(100_000):
        value = {"a": [value]}
    assert is_deep([1, value], 50)
    while value:  # taken apart level by level: Python 3.11 frees nested values by recursion
        value = value["a"][0]
