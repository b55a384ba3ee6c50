"""Settings of the registry."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.config.registry import RegistryConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alias": "previous"}, "must differ"),
        ({"challenger_alias": "Champion"}, "must differ"),
        ({"alias": "2nd"}, "pattern"),
        ({"name": "a/b"}, "pattern"),
        ({"approval": {"timeout_seconds": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RegistryConfig.model_validate(settings)


def test_aliases_have_the_usual_names() -> None:
    registry = RegistryConfig()
    assert (registry.alias, registry.previous_alias, registry.challenger_alias) == (
        "champion",
        "previous",
        "challenger",
    )
