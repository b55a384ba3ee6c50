from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.base import Record, Section


class Settings(Section):
    rows: int = 1
    """How many."""


class Output(Record):
    rows: int = 1


@pytest.mark.parametrize("kind", [Settings, Output])
def test_unknown_keys_are_refused_and_nothing_changes(kind: type[Settings | Output]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        kind.model_validate({"row": 2})
    made = kind(rows=2)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, "rows", 3)  # noqa: B010 - mypy sees that it is frozen
    assert kind.model_validate_json(made.model_dump_json()) == made


def test_text_below_a_setting_describes_it() -> None:
    assert Settings.model_json_schema()["properties"]["rows"]["description"] == "How many."
