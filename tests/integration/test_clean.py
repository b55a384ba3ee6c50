"""Old outputs are removed from the work directory of a real run; the next run computes them again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.config.storage import StorageConfig
from schemas.records.references import ReportReference
from schemas.records.stages import Stage
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.registry.store import alias_holder, connect
from tasks.storage.clean import clean
from tasks.storage.outputs import list_outputs
from tests.integration.conftest import ToyRun
from tests.support.outputs import store, stored

pytestmark = pytest.mark.integration

NO_ROOM = StorageConfig(max_size_gb=1e-9, max_age_days=1e-9)


@pytest.fixture
def home(toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run's work directory, in which outputs may be removed."""
    folder = tmp_path / "home"
    shutil.copytree(toy_run.home, folder)
    monkeypatch.setenv("SFT_HOME", str(folder))
    return folder


def contents() -> dict[str, set[str]]:
    """Return the sha256 of the content of each stage's outputs."""
    found: dict[str, set[str]] = {}
    for one in list_outputs():
        found.setdefault(one.stage, set()).add(one.sha256)
    return found


def outcomes() -> dict[str, str]:
    return {entry.stage: entry.event for entry in read_entries(last_flow_run_id() or "")}


def conclusion(reference: ReportReference) -> dict[str, Any]:
    report = json.loads(locate(reference, "report.json").read_text(encoding="utf-8"))
    return {"decision": reference.decision, "reason": reference.reason, "gates": report["gates"]}


def test_what_an_alias_needs_stays_and_the_rest_is_only_a_miss(toy_run: ToyRun, home: Path) -> None:
    config: RunConfig = toy_run.config
    before = conclusion(train_sft(config))
    made = contents()
    name = config.registry.name

    kept = clean(NO_ROOM)
    assert kept.n_needed_bytes == kept.n_kept_bytes
    conclusion(train_sft(config))
    assert set(outcomes().values()) == {"HIT"}
    assert outcomes().keys() == set(Stage)

    client = connect()
    champion = alias_holder(client, name, "champion")
    for alias in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, alias)
    freed = clean(NO_ROOM)
    assert freed.n_freed_bytes > 100_000
    assert list_outputs() == []

    assert conclusion(train_sft(config)) == before
    assert set(outcomes().values()) == {"MISS"}
    again = contents()
    for stage in (Stage.CHECK_QUALITY, Stage.TRAIN_MODEL, Stage.EVALUATE_MODEL):
        assert again[stage] <= made[stage]
    assert alias_holder(connect(), name, "champion") == champion


def test_a_run_keeps_within_its_limits(toy_run: ToyRun, home: Path) -> None:
    settings = toy_run.config.model_dump(mode="json")
    settings["registry"]["name"] = "toy-bounded"
    settings["gates"]["mode"] = "off"
    left = home / "stages" / "train_model" / ".tmp-abc-1"
    left.mkdir()
    os.utime(left, (1.0, 1.0))  # a folder of today may be of another machine
    settings["storage"] = {"max_size_gb": 1e-9}
    needed = {one.path for one in list_outputs()}
    old = store("decide", days=3)
    config = RunConfig.model_validate(settings)
    reference = train_sft(config)
    assert not left.exists()
    assert not stored(old)
    assert {one.path for one in list_outputs()} >= needed
    assert locate(reference, "report.json").exists()  # of this run
    clean(config.storage)
    assert not locate(reference, "report.json").exists()  # of no version, so that it is not needed
    assert alias_holder(connect(), toy_run.config.registry.name, "champion") == 1
