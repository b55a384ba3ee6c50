"""The whole flow on a toy Llama: both formats, a real Prefect server, a real MLflow store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import tasks.engine.stage
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.errors import DataRejected
from schemas.records.decision import Decision
from schemas.records.stages import Stage
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.engine.keys import StageKey
from tasks.registry.store import alias_holder, connect
from tests.integration.conftest import N_ROWS, ToyRun, record_calls, toy_config
from tests.support.toy import as_messages, make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration
EMBEDDINGS = "model.embed_tokens.weight"


@pytest.mark.core
def test_flow_promotes_a_model_that_beats_its_base(toy_run: ToyRun) -> None:
    report = json.loads(locate(toy_run.report, "report.json").read_text(encoding="utf-8"))
    assert report["decision"] == "promote"
    assert report["metrics"]["challenger"]["loss"] < report["metrics"]["base"]["loss"]
    loss_gate = next(gate for gate in report["gates"] if gate["id"] == "loss_below_base")
    assert loss_gate["interval_low"] > 0
    assert report["data"]["n_rows"] == N_ROWS
    assert alias_holder(connect(), "toy", "champion") == report["registry"]["version"]


@pytest.mark.core
def test_flow_says_hit_everywhere_when_nothing_changed(toy_run: ToyRun) -> None:
    train_sft(toy_run.config)
    run_id = last_flow_run_id()
    assert run_id is not None
    assert [(entry.stage, entry.event) for entry in read_entries(run_id)] == [
        (stage.value, "HIT") for stage in Stage
    ]


@pytest.mark.core
def test_flow_refresh_computes_the_named_stage_anew(toy_run: ToyRun) -> None:
    train_sft(toy_run.config, refresh=(Stage.DECIDE,))
    entries = {entry.stage: entry for entry in read_entries(last_flow_run_id() or "")}
    assert entries["decide"].detail == "refresh was asked for"
    assert [name for name, entry in entries.items() if entry.event == "MISS"] == ["decide"]


def test_another_severity_checks_the_data_again_but_trains_nothing(toy_run: ToyRun) -> None:
    settings = toy_run.config.model_dump(mode="json")
    settings["data"]["rules"] = {"content_empty": {"severity": "warn"}}
    settings["quality"]["rules"] = {"too_long": {"severity": "warn"}}
    settings["registry"]["name"] = "toy-severity"
    train_sft(RunConfig.model_validate(settings))
    entries = {entry.stage: entry.event for entry in read_entries(last_flow_run_id() or "")}
    assert entries["check_schema"] == entries["check_quality"] == "MISS"
    judged = ("generate_baseline", "train_model", "evaluate_model", "decide")
    assert [entries[stage] for stage in judged] == ["HIT"] * len(judged)


def test_failed_refresh_keeps_the_former_output(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def refuse(_key: StageKey) -> OutputFolder:
            raise DataRejected("no")

        patch.setattr(tasks.engine.stage, "OutputFolder", refuse)
        with pytest.raises(DataRejected):
            train_sft(toy_run.config, refresh=(Stage.SPLIT_DATASET,))
    train_sft(toy_run.config)
    entries = read_entries(last_flow_run_id() or "")
    assert [entry.event for entry in entries] == ["HIT"] * len(Stage)


def test_flow_takes_messages_and_a_base_model_without_template(
    toy_run: ToyRun, tmp_path: Path
) -> None:
    model = make_toy_model(tmp_path / "base", has_template=False)
    data = write_jsonl(tmp_path / "chat.jsonl", as_messages(toy_rows(N_ROWS)))
    config = toy_config(model, data, registry={"name": "toy-messages"})
    reference = train_sft(config)
    report = json.loads(locate(reference, "report.json").read_text(encoding="utf-8"))
    assert report["data"]["formats"] == {"messages": N_ROWS}
    assert reference.decision is Decision.PROMOTE
    calls = record_calls(config)
    template = calls["train_model"][1]["template"]
    assert template.n_added_tokens > 0
    before = load_file(locate(template, "model") / "model.safetensors")
    after = load_file(locate(calls["evaluate_model"][1]["trained"], "model") / "model.safetensors")
    changed = (before[EMBEDDINGS] != after[EMBEDDINGS]).any(dim=1).nonzero().flatten().tolist()
    n_known_tokens = 257  # 256 bytes and the end-of-text token of the toy base model
    assert changed  # left at the mean, the new stop token could never be told from the others
    assert min(changed) >= n_known_tokens


@pytest.mark.core
def test_flow_refuses_a_model_that_did_not_learn(toy_run: ToyRun) -> None:
    training = toy_run.config.training.model_copy(update={"learning_rate": 1e-9, "max_steps": 1})
    config = toy_run.config.model_copy(
        update={
            "training": training,
            "registry": toy_run.config.registry.model_copy(update={"name": "toy-refused"}),
        }
    )
    reference = train_sft(config)
    assert reference.decision is Decision.REFUSE
    assert "loss_below_base" in reference.reason
    client = connect()
    assert alias_holder(client, "toy-refused", "champion") is None
    assert client.get_model_version("toy-refused", "1").tags["sft.decision"] == "refuse"


@pytest.mark.core
def test_registered_model_chats_and_names_its_lineage(toy_run: ToyRun) -> None:
    client = connect()
    version = client.get_model_version_by_alias("toy", "champion")
    report = json.loads(locate(toy_run.report, "report.json").read_text(encoding="utf-8"))
    assert version.tags["sft.eval_sha256"] == report["lineage"]["eval_sha256"]
    run = client.get_run(version.run_id)
    assert run.data.params["training.learning_rate"] == "0.01"
    assert len(client.get_metric_history(version.run_id, "train/loss")) > 5
    assert run.inputs.dataset_inputs[0].dataset.digest == report["lineage"]["dataset_sha256"][:36]
    files = {item.path for item in client.list_artifacts(version.run_id)}
    assert {"config.yaml", "gates.json", "report.html", "report.json"} <= files

    import mlflow

    model = mlflow.pyfunc.load_model("models:/toy@champion")
    answer = model.predict(
        {"messages": [{"role": "user", "content": "What colour?"}], "max_tokens": 5}
    )
    assert answer[0]["choices"][0]["message"]["role"] == "assistant"
