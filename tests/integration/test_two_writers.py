"""Two processes with work directories of their own on one store, killed at random: nothing is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.registry import lease
from tasks.registry.aliases import read_holders, settle_aliases
from tasks.registry.lease import promotion_lease
from tasks.registry.store import connect, has_model_files
from tasks.registry.tags import (
    DECISION_TAG,
    JOURNAL_TAG,
    PROMOTED_AT_TAG,
    PROMOTED_OVER_TAG,
    WEIGHTS_TAG,
)
from tests.support.histories import PROMOTED, READY
from tests.support.mlflow_server import running_mlflow

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NAME = "toy"
START_SECONDS = 120.0
MIN_KILLS = 3


class Writer:
    """A process that promotes, rolls back and prunes until it is killed."""

    def __init__(self, home: Path, experiment: str, seed: int) -> None:
        self.log = home.with_suffix(f".{seed}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.histories", NAME, experiment, str(seed)],
                cwd=ROOT,
                env=os.environ | {"SFT_HOME": str(home), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while READY not in self.log.read_text(encoding="utf-8"):
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def fight(folder: Path, seconds: float) -> int:
    """Let two writers work, and kill one at random again and again; return the number of kills."""
    choose = random.Random(1)
    client = connect()
    experiment = str(
        client.create_experiment("models", artifact_location=(folder / "artifacts").as_uri())
    )
    client.create_registered_model(NAME)
    writers = [Writer(folder / str(place), experiment, place) for place in range(2)]
    n_kills = 0
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline or n_kills < MIN_KILLS:
            for writer in writers:
                writer.wait_until_ready()
            time.sleep(choose.uniform(1, 8))
            place = choose.randrange(2)
            writers[place].wait_until_ready()  # it still works
            writers[place].kill()
            n_kills += 1
            writers[place] = Writer(folder / str(place), experiment, choose.getrandbits(32))
    finally:
        for writer in writers:
            writer.kill()
    return n_kills


def check_order(folder: Path) -> int:
    """Check that a command after all this finds everything; return the number of promotions."""
    client = connect()
    lease.LEASE_SECONDS = 3.0
    settle_aliases(client, NAME)
    with promotion_lease(client, NAME, wait_seconds=30):
        pass
    model = client.get_registered_model(NAME)
    assert JOURNAL_TAG not in model.tags
    holders = read_holders(client, NAME, ["champion", "previous"])
    assert holders["champion"] != holders["previous"]
    for number in holders.values():
        assert number is not None
        version = client.get_model_version(NAME, str(number))
        assert version.tags[DECISION_TAG] == "promote"
        assert version.tags[PROMOTED_AT_TAG]
        assert WEIGHTS_TAG not in version.tags
        assert has_model_files(client, str(version.source))
    texts = [log.read_text(encoding="utf-8") for log in folder.glob("*.log")]
    assert not any("Traceback" in text for text in texts)
    lines = [line for text in texts for line in text.splitlines()]
    promoted = {line.split()[1] for line in lines if line.startswith(PROMOTED)}
    for text in promoted:  # none that was reported was undone
        assert client.get_model_version(NAME, text).tags.get(PROMOTED_OVER_TAG)
    assert client.get_model_version(NAME, str(holders["champion"])).aliases
    return len(promoted)


@pytest.mark.parametrize("seconds", [20.0, pytest.param(600.0, marks=pytest.mark.slow)])
def test_two_processes_on_one_file(
    tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow_db.read_bytes())
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "reader"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
    n_kills = fight(tmp_path, seconds)
    n_promotions = check_order(tmp_path)
    assert n_kills >= MIN_KILLS
    assert n_promotions > n_kills


@pytest.mark.slow
def test_two_processes_on_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with running_mlflow(tmp_path, store, str(tmp_path / "served"), {}) as address:
        monkeypatch.setenv("SFT_HOME", str(tmp_path / "reader"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
        n_kills = fight(tmp_path, 600.0)
        n_promotions = check_order(tmp_path)
    assert n_kills >= MIN_KILLS
    assert n_promotions > n_kills
