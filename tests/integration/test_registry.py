"""Registration and promotion against a real MLflow store."""

from __future__ import annotations

import os
import shutil

import pytest
from prefect import flow

from flows.train_sft import train_sft
from schemas.records import DecisionReference, PromotionReference
from schemas.run_config import RunConfig
from tasks._cache import look_up
from tasks._keys import stage_key
from tasks._registry import alias_holder, connect, find_version
from tasks.promote_model import promote_model, verify_alias
from tasks.register_model import describe, flatten, verify_version
from tests.integration.conftest import ToyRun, record_calls

pytestmark = pytest.mark.integration


def test_flatten_writes_dotted_names() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": "f"}) == {
        "a.b": "1",
        "a.c.d": "None",
        "e": "f",
    }


def test_same_result_gives_the_same_version(toy_run: ToyRun) -> None:
    definition, arguments = record_calls(toy_run.config)["register_model"]
    before = look_up(definition, stage_key(definition, arguments)).reference
    assert before is not None
    shutil.rmtree(toy_run.home / before.folder)
    train_sft(toy_run.config)
    after = look_up(definition, stage_key(definition, arguments)).reference
    assert after == before
    found = find_version(connect(), "toy", stage_key(definition, arguments).digest)
    assert found is not None
    assert found[0] == before.version  # type: ignore[attr-defined]


def test_deleted_version_is_noticed(toy_run: ToyRun) -> None:
    definition, arguments = record_calls(toy_run.config)["register_model"]
    reference = look_up(definition, stage_key(definition, arguments)).reference
    assert verify_version(reference) == ""  # type: ignore[arg-type]
    missing = reference.model_copy(update={"version": 999})  # type: ignore[union-attr]
    assert "no longer in the registry" in verify_version(missing)  # type: ignore[arg-type]


def test_deleted_model_files_are_noticed(toy_run: ToyRun) -> None:
    definition, arguments = record_calls(toy_run.config)["register_model"]
    key = stage_key(definition, arguments)
    hidden = toy_run.home / "hidden"
    (toy_run.home / "artifacts").rename(hidden)
    try:
        assert "files of version" in look_up(definition, key).reason
        assert find_version(connect(), "toy", key.digest) is None
    finally:
        hidden.rename(toy_run.home / "artifacts")
    assert look_up(definition, key).reference is not None


def test_connecting_leaves_the_environment_alone(toy_run: ToyRun) -> None:
    connect()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def promote(toy_run: ToyRun, alias: str) -> PromotionReference:
    """Promote the toy version under another alias."""
    arguments = record_calls(toy_run.config)["promote_model"][1]
    decision: DecisionReference = arguments["decision"]

    @flow(name="promote-once")
    def promote_once() -> PromotionReference:
        return promote_model(arguments["version"], decision, alias)

    return promote_once()


def test_promotion_does_not_take_the_alias_back(toy_run: ToyRun) -> None:
    reference = promote(toy_run, "stable")
    client = connect()
    assert alias_holder(client, "toy", "stable") == reference.version
    source = client.get_model_version("toy", str(reference.version)).source
    other = client.create_model_version("toy", source)
    client.set_registered_model_alias("toy", "stable", other.version)
    assert verify_alias(reference) == ""
    assert promote(toy_run, "stable") == reference
    assert alias_holder(client, "toy", "stable") == int(other.version)
    client.delete_registered_model_alias("toy", "stable")
    assert "was deleted" in verify_alias(reference)
    promote(toy_run, "stable")
    assert alias_holder(client, "toy", "stable") == reference.version
    client.delete_model_version("toy", other.version)


def test_alias_holder_is_none_for_an_unknown_model(toy_run: ToyRun) -> None:
    assert alias_holder(connect(), "no-such-model", "champion") is None


def test_describe_gives_figures_of_both_models(toy_run: ToyRun) -> None:
    evidence = record_calls(toy_run.config)["register_model"][1]["evidence"]
    text = describe(evidence)
    assert f"| loss | {evidence.baseline.metrics['loss']}" in text
    assert "**promote**" in text


def test_every_setting_is_logged_as_a_parameter(toy_run: ToyRun) -> None:
    version = connect().get_model_version_by_alias("toy", "champion")
    logged = connect().get_run(version.run_id).data.params
    assert RunConfig().model_fields_set == set()
    assert flatten(toy_run.config.model_dump(mode="json")).keys() == logged.keys()
