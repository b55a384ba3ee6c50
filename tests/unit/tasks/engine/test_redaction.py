from __future__ import annotations

import pytest

from schemas.config.run import DataSource, RunConfig
from tasks.engine.keys import StageDefinition, stage_key
from tasks.engine.redaction import public_settings, without_secrets
from tasks.registry.store import flatten

ADDRESS = "https://user:pw@host.example/rows.jsonl?X-Amz-Signature=abc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ADDRESS, "https://host.example/rows.jsonl"),
        ("https://user:p@w@host.example/a@b.jsonl", "https://host.example/a@b.jsonl"),
        (f"simplecache::{ADDRESS}", "simplecache::https://host.example/rows.jsonl"),
        ("s3://bucket/rows.jsonl", "s3://bucket/rows.jsonl"),
        ("why? because@home", "why? because@home"),
        (
            "run HTTP_PROXY=http://u:p@proxy:80 a@b --ask x?",
            "run HTTP_PROXY=http://proxy:80 a@b --ask x?",
        ),
        ("models:/faq@champion", "models:/faq@champion"),
        ("s3://bucket/part-?.jsonl", "s3://bucket/part-?.jsonl"),
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"https?://docs\.x/\w+", r"https?://docs\.x/\w+"),
        (r"https://docs\.x/\w+\?q=(a|b)", r"https://docs\.x/\w+\?q=(a|b)"),
        ("Ask https://docs.x/a?b=c first. Be kind?", "Ask https://docs.x/a?b=c first. Be kind?"),
        ("Ask https://me:pw@docs.x/a?b=c.", "Ask https://docs.x/a?b=c."),
        ("Ask https://docs.x/a?api_key=1 first.", "Ask https://docs.x/a first."),
        ("Ask https://docs.x/a?x=1&X-Amz-Signature=abc first.", "Ask https://docs.x/a first."),
        ("Ask https://docs.x/a?h=0123456789abcdef0123456789 first.", "Ask https://docs.x/a first."),
        ("https://docs.x/a?unknown=abc", "https://docs.x/a"),
    ],
)
def test_public_settings_keep_text_whole_and_addresses_without_secrets(
    text: str, shown: str
) -> None:
    assert public_settings(text) == shown


def test_stage_key_holds_no_secret() -> None:
    from schemas.records.references import DatasetReference

    definition = StageDefinition("load_dataset", "tasks.load_dataset", DatasetReference)
    key = stage_key(definition, {"source": DataSource(source=ADDRESS)})
    assert key.parts["config source.source"] == '"https://host.example/rows.jsonl"'
    assert "pw" not in str(key.parts)


def test_parameters_of_a_run_hold_no_secret() -> None:
    config = RunConfig.model_validate({"data": {"source": {"source": ADDRESS}}})
    parameters = flatten(public_settings(config.model_dump(mode="json")))
    assert parameters["data.source.source"] == "https://host.example/rows.jsonl"
    assert parameters["training.learning_rate"] == "0.0005"
    assert "Signature" not in str(parameters)
