"""Two retrains at once in one work directory, in processes of their own: nothing is fought over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.records.decision import Decision
from schemas.records.references import ReportReference
from schemas.records.stages import Stage
from tasks.engine.cache import MANIFEST, locate
from tasks.engine.journal import read_entries
from tasks.engine.keys import file_sha256
from tasks.registry.store import alias_holder, connect
from tests.integration.conftest import N_ROWS, toy_config
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 240
PROGRAM = """
import sys
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
print(train_sft(RunConfig.model_validate_json(sys.stdin.read())).model_dump_json())
"""
NAMES = ("left", "right")
STEPS = (30, 28)
"""Different trainings, which run at the same time, on rows that one of them prepares for both."""
SHARED = {Stage.LOAD_DATASET, Stage.PREPARE_TEMPLATE, Stage.CHECK_SCHEMA, Stage.SPLIT_DATASET}


def start(config: RunConfig, home: Path) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    environment = os.environ | {
        "SFT_HOME": str(home),
        "PREFECT_API_URL": str(get_current_settings().api.url),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert process.stdin
    process.stdin.write(config.model_dump_json())
    process.stdin.close()
    process.stdin = None
    return process


def finish(process: subprocess.Popen[str]) -> ReportReference:
    """Wait for a run and see it succeed without a word about locks."""
    try:
        output, log = process.communicate(timeout=RUN_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, log
    for words in ("locked", "already exists", "Traceback", "Retry"):
        assert words not in log, log
    return ReportReference.model_validate_json(output.splitlines()[-1])


def test_two_retrains_at_once_promote_each_its_model_and_share_what_is_equal(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("SFT_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = toy_config(
        make_toy_model(tmp_path / "model"),
        write_jsonl(tmp_path / "rows.jsonl", toy_rows(N_ROWS)),
    )
    settings = []
    for name, steps in zip(NAMES, STEPS, strict=True):
        registry = config.registry.model_copy(update={"name": name})
        training = config.training.model_copy(update={"max_steps": steps})
        settings.append(config.model_copy(update={"registry": registry, "training": training}))
    other = start(settings[1], home)
    # Ours has imported everything already: it waits for the other's first stage.
    while not list(home.glob("runs/*.jsonl")):
        assert other.poll() is None
        time.sleep(0.1)
    reports = [train_sft(settings[0]), finish(other)]

    assert [report.decision for report in reports] == [Decision.PROMOTE] * 2
    assert [alias_holder(connect(), name, "champion") for name in NAMES] == [1, 1]
    for name, report, steps in zip(NAMES, reports, STEPS, strict=True):
        document = json.loads(locate(report, "report.json").read_text("utf-8"))
        assert document["registry"]["name"] == name
        assert document["training"]["n_steps"] == steps

    journals = [read_entries(path.stem) for path in (home / "runs").iterdir()]
    assert [{entry.stage for entry in journal} for journal in journals] == [set(Stage)] * 2
    computed = [e.stage for journal in journals for e in journal if e.seconds is not None]
    assert {stage for stage in SHARED if computed.count(stage) != 1} == set()

    outputs = [path.parent for path in (home / "stages").rglob(MANIFEST)]
    for folder in outputs:
        files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        assert {name: file_sha256(folder / name) for name in files} == files
    assert [path.name for path in (home / "stages").rglob(".*")] == []
    assert list((home / "checkpoints").iterdir()) == []
    assert list((home / "registering").iterdir()) == []
