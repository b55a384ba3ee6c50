"""How deeply a value is nested, found without recursion."""

from __future__ import annotations

from typing import Any


def is_deep(value: Any, most_levels: int) -> bool:
    """Check whether a JSON value is nested more than so many levels."""
    level = [value]
    for _ in range(most_levels + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return False
        level = inner
    return True
