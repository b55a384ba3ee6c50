from __future__ import annotations

import pytest

from schemas.config._errors import all_keys, nearest_key


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("training.learnin_rate", "training.learning_rate"),
        ("learning_rate", "training.learning_rate"),
        ("trainings", "training"),
        ("data.rules.roles_not_alternatin", "data.rules.roles_not_alternating"),
        ("gates.checks.own.limits", "gates.checks.own.limit"),
        ("split.pinned.surce", "split.pinned.source"),
        ("zzzz", ""),
    ],
)
def test_nearest_key(key: str, nearest: str) -> None:
    assert nearest_key(key) == nearest


def test_all_keys_walks_into_rules_and_columns() -> None:
    keys = set(all_keys())
    assert {"seed", "training.lora.r", "data.source.columns.prompt"} <= keys
    assert "quality.rules.too_long.limit" in keys
