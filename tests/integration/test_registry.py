"""Registration and promotion against a real MLflow store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect import flow

from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.records.references import PromotionReference, TrainedReference
from tasks.engine.cache import look_up
from tasks.engine.home import store_name
from tasks.engine.keys import stage_key
from tasks.promote_model import promote_model, verify_alias
from tasks.register_model import verify_version
from tasks.registry.lineage import version_fingerprint
from tasks.registry.store import alias_holder, connect, experiment_id, find_version, flatten
from tasks.release.run_files import history_points, log_adapter, training_tags
from tasks.training.live_metrics import RUN_FILE, TrainingRun
from tests.integration.conftest import ToyRun, record_calls
from tests.support.toy import make_toy_model

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
    found = find_version(connect(), "toy", version_fingerprint("toy", arguments["evidence"]))
    assert found is not None
    assert found.version == before.version  # type: ignore[attr-defined]


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
    finally:
        hidden.rename(toy_run.home / "artifacts")
    assert look_up(definition, key).reference is not None


def test_experiment_that_another_run_makes_at_the_same_time_is_taken(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    made = experiment_id(client, "made-by-two")
    answers = [None, client.get_experiment_by_name("made-by-two")]
    monkeypatch.setattr(client, "get_experiment_by_name", lambda _: answers.pop(0))
    assert experiment_id(client, "made-by-two") == made
    assert answers == []


def test_connecting_leaves_the_environment_alone(toy_run: ToyRun) -> None:
    connect()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def promote(toy_run: ToyRun, alias: str) -> PromotionReference:
    """Promote the toy version under another alias."""
    arguments = record_calls(toy_run.config)["promote_model"][1]
    registry = arguments["registry"].model_copy(update={"alias": alias})

    @flow(name="promote-once")
    def promote_once() -> PromotionReference:
        return promote_model(arguments["version"], arguments["decision"], registry)

    return promote_once()


def test_store_whose_creation_was_killed_is_created_by_the_next_run(work_folder: Path) -> None:
    program = "from tasks.registry.store import connect; connect()"
    environment = os.environ | {"SFT_HOME": str(work_folder)}
    first = subprocess.Popen([sys.executable, "-c", program], env=environment)
    scratch = work_folder / ".mlflow.db.partial"
    while first.poll() is None and not (scratch.is_file() and scratch.stat().st_size):
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert scratch.is_file()
    assert not (work_folder / "mlflow.db").exists()
    assert [one.name for one in connect().search_experiments()] == ["Default"]
    assert not scratch.exists()


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
    client.delete_registered_model_alias("toy", "stable")
    client.delete_model_version("toy", other.version)


def test_alias_holder_is_none_for_an_unknown_model(toy_run: ToyRun) -> None:
    assert alias_holder(connect(), "no-such-model", "champion") is None


def test_description_gives_figures_of_both_models(toy_run: ToyRun) -> None:
    evidence = record_calls(toy_run.config)["register_model"][1]["evidence"]
    text = connect().get_model_version_by_alias("toy", "champion").description
    assert f"| loss | {evidence.baseline.metrics['loss']:.4g} |" in text
    assert "**promote**" in text


def test_version_names_its_flow_run_and_can_be_found_by_it(toy_run: ToyRun) -> None:
    client = connect()
    tags = client.get_model_version_by_alias("toy", "champion").tags
    flow_run_id = tags["sft.flow_run_id"]
    assert tags["sft.flow_run_url"].endswith(flow_run_id)
    found = client.search_model_versions(f"tags.`sft.flow_run_id` = '{flow_run_id}'")
    assert [one.name for one in found] == ["toy"]


def test_every_setting_is_logged_as_a_parameter(toy_run: ToyRun) -> None:
    version = connect().get_model_version_by_alias("toy", "champion")
    logged = connect().get_run(version.run_id).data.params
    assert RunConfig().model_fields_set == set()
    assert flatten(toy_run.config.model_dump(mode="json")).keys() == logged.keys()


def test_history_points_are_named_by_figure() -> None:
    history = [{"step": 1, "loss": 2, "learning_rate": 0.5}, {"step": 1, "eval_loss": 3.0}]
    assert [point[:3] for point in history_points(history)] == [
        ("train/loss", 2.0, 1),
        ("train/learning_rate", 0.5, 1),
        ("train/eval_loss", 3.0, 1),
    ]


def test_adapter_of_a_version_loads_on_the_base_model(work_folder: Path, tmp_path: Path) -> None:
    """Through a real store: what peft loads from the tag's address gives the merged weights."""
    import mlflow
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = make_toy_model(tmp_path / "base")
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(target_modules="all-linear", init_lora_weights=False),
    )
    output = work_folder / "stages/train_model/k"
    tuned.save_pretrained(output / "adapter")
    expected = tuned.merge_and_unload().state_dict()
    record = TrainingRun(run_id="r1", tracking_uri=store_name())
    (output / RUN_FILE).write_text(record.model_dump_json(), encoding="utf-8")
    trained = TrainedReference(
        stage="train_model",
        folder="stages/train_model/k",
        sha256="s",
        device="cpu",
        n_steps=1,
        n_tokens_seen=1,
        first_loss=2.0,
        last_loss=1.0,
        n_trainable_parameters=1,
    )
    client = connect()
    experiment = experiment_id(client, "adapters")
    with mlflow.start_run(experiment_id=experiment) as run:
        log_adapter(client, run.info.run_id, trained)
    tags = training_tags(trained, run.info.run_id)
    assert tags == {
        "sft.adapter": f"runs:/{run.info.run_id}/adapter",
        "sft.training_run_id": "r1",
    }
    folder = mlflow.artifacts.download_artifacts(tags["sft.adapter"])
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    found = loaded.merge_and_unload().state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_version_holds_adapter_and_loss_curve_and_names_its_training(toy_run: ToyRun) -> None:
    client = connect()
    version = client.get_model_version_by_alias("toy", "champion")
    names = {file.path for file in client.list_artifacts(version.run_id)}
    assert {"adapter", "loss_curve.svg", "report.html"} <= names
    training = client.get_run(version.tags["sft.training_run_id"])
    assert training.info.status == "FINISHED"
    assert training.data.tags["sft.stage"] == "train_model"
    last = record_calls(toy_run.config)["register_model"][1]["evidence"].trained.last_loss
    assert training.data.metrics["train/loss"] == pytest.approx(last)
