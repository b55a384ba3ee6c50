"""A scheduled retrain on the toy model: nothing to do, new rows, drift, and one name at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows.check_data import check_data
from flows.cli.status import newest_output
from flows.retrain_model import decide_retrain, retrain_model
from schemas.config.run import RunConfig
from schemas.errors import DataRejected
from schemas.records.references import ReportReference, RetrainDecision, RetrainReason
from schemas.records.stages import Stage
from tasks.engine import _code_hash
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.load_dataset import load_dataset
from tasks.registry.champion import ChampionData, read_champion_profile
from tasks.registry.rejections import read_rejections
from tasks.registry.retrain_reasons import find_evaluated
from tasks.registry.versions import fetch_registered, find_champion
from tests.integration.conftest import N_ROWS, ToyRun
from tests.support.toy import toy_rows, write_jsonl

pytestmark = pytest.mark.integration

LONG_ROW = {
    "prompt": "Is part 1 of the frame bolted to beam 8, and part 2 to beam 9?",
    "completion": "Yes.",
}
"""Long enough to be recognised in a benchmark."""


@pytest.fixture(scope="module")
def settings(finished_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A name of this file, and a data gate that lets drifted rows through."""
    settings = finished_run.config.model_dump(mode="json")
    settings["data"]["source"]["source"] = str(tmp_path_factory.mktemp("rows") / "rows.jsonl")
    settings["quality"]["mode"] = "warn"
    settings["registry"]["name"] = "toy-scheduled"
    settings["training"]["max_steps"] = 8
    return settings


def with_rows(settings: dict[str, Any], rows: list[dict[str, Any]], **retrain: float) -> RunConfig:
    """Put rows into the file that the settings name."""
    write_jsonl(Path(settings["data"]["source"]["source"]), rows)
    return RunConfig.model_validate(settings | {"retrain": retrain})


@flow(name="weigh")
def weigh(config: RunConfig) -> RetrainDecision:
    return decide_retrain(config, load_dataset(config.data.origin))


def test_retrain_trains_where_there_is_a_reason_and_else_looks_at_the_data(
    toy_run: ToyRun, settings: dict[str, Any]
) -> None:
    config = with_rows(settings, toy_rows(N_ROWS + 3))
    reference = retrain_model(config)
    assert isinstance(reference, ReportReference)
    report = json.loads(locate(reference, "report.json").read_text(encoding="utf-8"))
    assert report["retrain"]["reason"] == "first"
    judged = find_evaluated(config.registry)
    assert judged is not None
    assert judged.digests is not None
    assert len(judged.digests) == N_ROWS + 3

    decision = retrain_model(config)
    assert isinstance(decision, RetrainDecision)
    assert (decision.reason, decision.n_rows) == (RetrainReason.NOTHING, N_ROWS + 3)
    assert decision.detail == "the rows are those of version 1"
    entries = [entry for entry in read_entries(last_flow_run_id() or "") if entry.event == "HIT"]
    assert [entry.stage for entry in entries] == ["load_dataset"]

    decision = weigh(with_rows(settings, toy_rows(N_ROWS + 5)[1:]))
    assert (decision.reason, decision.n_new_rows, decision.n_gone_rows) == ("new_rows", 2, 1)

    rows = toy_rows(N_ROWS + 3)
    longer = [
        {**row, "prompt": f"{row['prompt']} and please be brief, as I am in a hurry"}
        for row in rows[:40]
    ]
    for limit, reason in ((100, RetrainReason.NOTHING), (0.001, RetrainReason.DRIFT)):
        config = with_rows(settings, rows + longer, min_new_rows=1000, min_drift=limit)
        decision = weigh(config)
        assert decision.reason is reason, decision.detail
        assert decision.drift is not None
        assert 0.001 < decision.drift < 100


def test_refused_rows_are_refused_once(toy_run: ToyRun, settings: dict[str, Any]) -> None:
    settings = settings | {"quality": settings["quality"] | {"mode": "enforce"}}
    settings["registry"] = settings["registry"] | {"name": "toy-refused-rows"}
    broken = [{"prompt": "Where is the lid of the box?", "completion": ""}] * 30
    config = with_rows(settings, toy_rows(N_ROWS) + broken)
    with pytest.raises(DataRejected, match="bad_row_fraction"):
        retrain_model(config)
    decision = retrain_model(config)
    assert isinstance(decision, RetrainDecision)
    assert decision.reason is RetrainReason.NOTHING
    assert decision.detail.startswith("these rows were rejected at 20")
    assert [found.n_rows for found in read_rejections("toy-refused-rows")] == [N_ROWS + 30]

    mended = with_rows(settings, toy_rows(N_ROWS))
    assert weigh(mended).reason is RetrainReason.FIRST


@pytest.fixture
def gate(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Settings whose data gate reads a pinned file, a benchmark and a profile."""
    write_jsonl(tmp_path / "pinned.jsonl", toy_rows(N_ROWS + 40)[N_ROWS:])
    write_jsonl(
        tmp_path / "benchmark.jsonl", [{"prompt": "What is 7 times 8?", "completion": "56"}]
    )
    block = {"severity": "block"}
    rules = {"benchmark_overlap": block, "drift": block | {"limit": 0.5}}
    settings = deepcopy(settings)
    settings["split"]["pinned"] = {"source": str(tmp_path / "pinned.jsonl")}
    settings["registry"]["name"] = "toy-gate"
    quality = {"benchmarks": [str(tmp_path / "benchmark.jsonl")], "mode": "enforce", "rules": rules}
    settings["quality"] |= quality | {"reference": "none"}
    check_data(with_rows(settings, [*toy_rows(N_ROWS), LONG_ROW]))
    return settings


def break_pinned(folder: Path, settings: dict[str, Any]) -> Callable[[], object]:
    path = folder / "pinned.jsonl"
    good = path.read_bytes()
    path.write_bytes(good + b'{"prompt": "Where is the lid?", "completion": ""}\n')
    return lambda: path.write_bytes(good)


def break_benchmark(folder: Path, settings: dict[str, Any]) -> Callable[[], object]:
    path = folder / "benchmark.jsonl"
    good = path.read_bytes()
    write_jsonl(path, [LONG_ROW])
    return lambda: path.write_bytes(good)


def break_profile(folder: Path, settings: dict[str, Any]) -> Callable[[], object]:
    path = folder / "profile.json"
    passed = newest_output(Stage.CHECK_QUALITY)
    assert passed is not None
    good = (passed / "profile.json").read_text(encoding="utf-8")
    longer = {"answer_characters": [0] * 12 + [N_ROWS], "kept_sha256": ""}
    path.write_text(json.dumps(json.loads(good) | longer), encoding="utf-8")
    settings["quality"]["reference"] = str(path)
    return lambda: path.write_text(good, encoding="utf-8")


@pytest.mark.parametrize("harm", [break_pinned, break_benchmark, break_profile])
def test_rows_are_tried_again_when_what_else_the_gate_reads_was_repaired(
    toy_run: ToyRun,
    gate: dict[str, Any],
    tmp_path: Path,
    harm: Callable[[Path, dict[str, Any]], Callable[[], object]],
) -> None:
    repair = harm(tmp_path, gate)
    config = with_rows(gate, [*toy_rows(N_ROWS), LONG_ROW])
    with pytest.raises(DataRejected):
        check_data(config)
    assert weigh(config).detail.startswith("these rows were rejected at 20")
    lower = gate | {"training": gate["training"] | {"max_steps": 7}}
    assert weigh(with_rows(lower, [*toy_rows(N_ROWS), LONG_ROW])).reason is RetrainReason.NOTHING
    repair()
    assert weigh(config).reason is RetrainReason.FIRST


def test_rows_are_tried_again_by_a_new_release_of_the_rules(
    toy_run: ToyRun, gate: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_benchmark(tmp_path, gate)
    config = with_rows(gate, [*toy_rows(N_ROWS), LONG_ROW])
    with pytest.raises(DataRejected):
        check_data(config)
    assert weigh(config).reason is RetrainReason.NOTHING
    known = _code_hash.code_sha256
    monkeypatch.setattr(
        "tasks.engine.keys.code_sha256",
        lambda name: "0" * 64 if "check_quality" in name else known(name),
    )
    assert weigh(config).reason is RetrainReason.FIRST


def test_looking_for_reasons_leaves_no_temporary_folder(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = toy_run.config
    evaluated = find_evaluated(config.registry)
    assert evaluated is not None
    assert evaluated.digests is not None
    champion = find_champion(f"models:/{config.registry.name}@champion")
    assert champion is not None
    fetch_registered(champion, tmp_path)
    assert read_champion_profile(ChampionData(champion.version, champion.run_id)) is not None
    assert list(tmp_path.iterdir()) == []
