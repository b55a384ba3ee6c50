from __future__ import annotations

import pytest

from schemas.run_config import DataSource
from tasks._keys import StageDefinition, stage_key
from tasks._secrets import public_settings, without_secrets

ADDRESS = "https://user:pw@host.example/rows.jsonl?X-Amz-Signature=abc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ADDRESS, "https://host.example/rows.jsonl"),
        ("s3://bucket/rows.jsonl", "s3://bucket/rows.jsonl"),
        ("why? because@home", "why? because@home"),
        ("models:/faq@champion", "models:/faq@champion"),
    ],
)
def test_without_secrets_leaves_password_and_query_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_public_settings_walks_through_everything() -> None:
    settings = {"a": [{"b": ADDRESS}], "c": 3, "d": None}
    assert public_settings(settings) == {
        "a": [{"b": "https://host.example/rows.jsonl"}],
        "c": 3,
        "d": None,
    }


def test_stage_key_holds_no_secret() -> None:
    from schemas.records import DatasetReference

    definition = StageDefinition("load_dataset", "tasks.load_dataset", DatasetReference)
    key = stage_key(definition, {"source": DataSource(source=ADDRESS)})
    assert key.parts["config source.source"] == '"https://host.example/rows.jsonl"'
    assert "pw" not in str(key.parts)
