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
LONGEST_SECONDS = 300.0
N_KILLS = 60
"""Some ten minutes."""


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

    def wait_for(self, word: str, times: int = 1) -> None:
        """Wait until its log has a word so many times."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while (text := self.log.read_text(encoding="utf-8")).count(word) < times:
            assert self.process.poll() is None, text[-2000:]
            assert time.monotonic() < deadline, text[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def fight(folder: Path, n_kills: int) -> None:
    """Let two writers work, and kill one at random, after some promotions, again and again."""
    choose = random.Random(1)
    client = connect()
    experiment = str(
        client.create_experiment("models", artifact_location=(folder / "artifacts").as_uri())
    )
    client.create_registered_model(NAME)
    writers = [Writer(folder / str(place), experiment, place) for place in range(2)]
    try:
        for _ in range(n_kills):
            for writer in writers:
                writer.wait_for(READY)
            place = choose.randrange(2)
            writers[place].wait_for(PROMOTED, times=choose.randint(1, 4))
            time.sleep(choose.uniform(0, 1))
            writers[place].kill()
            writers[place] = Writer(folder / str(place), experiment, choose.getrandbits(32))
    finally:
        for writer in writers:
            writer.kill()


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


@pytest.mark.parametrize("n_kills", [3, pytest.param(N_KILLS, marks=pytest.mark.slow)])
def test_two_processes_on_one_file(
    tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch, n_kills: int
) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow_db.read_bytes())
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "reader"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
    fight(tmp_path, n_kills)
    assert check_order(tmp_path) >= n_kills


@pytest.mark.slow
def test_two_processes_on_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with running_mlflow(tmp_path, store, str(tmp_path / "served"), {}) as address:
        monkeypatch.setenv("SFT_HOME", str(tmp_path / "reader"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
        fight(tmp_path, N_KILLS)
        assert check_order(tmp_path) >= N_KILLS
