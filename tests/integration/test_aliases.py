"""Aliases move together or not at all, wherever a step fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import AliasesUnsettled
from tasks.registry.aliases import move_aliases, read_holders, restore_interrupted
from tasks.registry.store import connect
from tasks.registry.tags import JOURNAL_TAG

pytestmark = pytest.mark.integration

NAMES = ("champion", "challenger", "previous")
BEFORE = {"champion": 1, "challenger": 2, "previous": None}
MOVES = {"challenger": 3, "previous": 1, "champion": 3}
WRITES = (
    "set_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "delete_registered_model_tag",
)


class FailingClient:
    """The real client, but write number `step` fails, and with `is_final` every later one too."""

    def __init__(self, client: Any, step: int, error: BaseException, *, is_final: bool) -> None:
        self.client, self.left, self.error, self.is_final = client, step, error, is_final

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if name not in WRITES:
            return found

        def write(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0 or (self.left < 0 and self.is_final):
                raise self.error
            return found(*arguments)

        return write


@pytest.fixture
def client(tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_mlflow_db, tmp_path)
    client = connect()
    client.create_registered_model("toy")
    for _ in range(3):
        client.create_model_version("toy", (tmp_path / "model").as_uri())
    client.set_registered_model_alias("toy", "champion", "1")
    client.set_registered_model_alias("toy", "challenger", "2")
    return client


def journal(client: Any) -> str | None:
    found: str | None = client.get_registered_model("toy").tags.get(JOURNAL_TAG)
    return found


def test_move_aliases_moves_all_and_says_who_was_before(client: Any) -> None:
    assert move_aliases(client, "toy", MOVES) == {"challenger": 2, "previous": None, "champion": 1}
    assert read_holders(client, "toy", NAMES) == {"champion": 3, "challenger": 3, "previous": 1}
    assert journal(client) is None
    move_aliases(client, "toy", {"previous": None})
    assert read_holders(client, "toy", NAMES)["previous"] is None


@pytest.mark.parametrize("error", [OSError("no store"), KeyboardInterrupt()], ids=["error", "stop"])
@pytest.mark.parametrize("step", range(1, 6))
def test_step_that_fails_rolls_all_back(client: Any, step: int, error: BaseException) -> None:
    failing = FailingClient(client, step, error, is_final=False)
    with pytest.raises(type(error)):
        move_aliases(failing, "toy", MOVES)  # type: ignore[arg-type]
    assert failing.left <= 0, "the transaction has fewer steps: lower the range"
    assert read_holders(client, "toy", NAMES) == BEFORE
    assert journal(client) is None


@pytest.mark.parametrize("step", range(2, 6))
def test_store_that_stays_away_leaves_a_journal_for_the_next_promotion(
    client: Any, step: int
) -> None:
    failing = FailingClient(client, step, OSError("no store"), is_final=True)
    with pytest.raises(AliasesUnsettled, match="champion on version 1"):
        move_aliases(failing, "toy", MOVES)  # type: ignore[arg-type]
    assert journal(client) is not None
    move_aliases(client, "toy", {"challenger": 3})
    assert read_holders(client, "toy", NAMES) == {**BEFORE, "challenger": 3}
    assert journal(client) is None


def die_after(home: str, n_writes: int) -> None:
    """Move the aliases and kill this process in the middle."""
    os.environ["SFT_HOME"] = home
    real = connect()

    class Dying(FailingClient):
        def __getattr__(self, name: str) -> Any:
            found = getattr(self.client, name)

            def write(*arguments: Any) -> Any:
                result = found(*arguments)
                if name in WRITES:
                    self.left -= 1
                    if self.left == 0:
                        os._exit(9)
                return result

            return write

    move_aliases(Dying(real, n_writes, OSError(), is_final=False), "toy", MOVES)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_writes", [2, 4])
def test_killed_promotion_is_put_back_by_the_next(
    client: Any, tmp_path: Path, n_writes: int
) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=die_after, args=(str(tmp_path), n_writes)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert read_holders(client, "toy", NAMES) != BEFORE
    assert json.loads(journal(client) or "{}")["champion"] == 1
    assert restore_interrupted(client, "toy")["champion"] == 1
    assert read_holders(client, "toy", NAMES) == BEFORE
    assert restore_interrupted(client, "toy") == {}
