"""Aliases move together or not at all, wherever a step fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import AliasesUnsettled, RegistryBusy
from tasks.registry import aliases, lease
from tasks.registry.aliases import move_aliases, read_holders, restore_interrupted, settle_aliases
from tasks.registry.lease import promotion_lease
from tasks.registry.store import connect
from tasks.registry.tags import JOURNAL_TAG, LEASE_TAG

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

    def __init__(
        self,
        client: Any,
        step: int,
        error: BaseException,
        *,
        is_final: bool,
        writes: tuple[str, ...] = WRITES,
    ) -> None:
        self.client, self.left, self.error, self.is_final = client, step, error, is_final
        self.writes = writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if name not in self.writes:
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
    settle_aliases(client, "toy")
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
def test_killed_promotion_is_put_back_by_the_next_command(
    client: Any, tmp_path: Path, n_writes: int
) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=die_after, args=(str(tmp_path), n_writes)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert read_holders(client, "toy", NAMES) != BEFORE
    assert json.loads(journal(client) or "{}")["aliases"]["champion"] == [1, 3]
    assert restore_interrupted(client, "toy")["champion"] == 1
    assert read_holders(client, "toy", NAMES) == BEFORE
    assert restore_interrupted(client, "toy") == {}


def interrupt(client: Any, moves: dict[str, int | None], n_writes: int) -> None:
    """Leave a transaction as a process leaves it that is killed after some writes."""
    failing = FailingClient(client, n_writes + 1, OSError("no store"), is_final=True)
    with pytest.raises(AliasesUnsettled):
        move_aliases(failing, "toy", moves)  # type: ignore[arg-type]


def test_what_a_person_set_since_the_interruption_stays(client: Any) -> None:
    interrupt(client, {"previous": 1, "champion": 3}, 3)
    client.set_registered_model_alias("toy", "champion", "2")
    settle_aliases(client, "toy")
    assert read_holders(client, "toy", NAMES) == {**BEFORE, "champion": 2}
    assert journal(client) is None


def test_version_deleted_since_the_interruption_is_skipped(client: Any) -> None:
    interrupt(client, {"previous": 1, "champion": 3}, 3)
    client.delete_model_version("toy", "1")
    settle_aliases(client, "toy")
    assert read_holders(client, "toy", NAMES)["champion"] == 3
    assert journal(client) is None


def test_tags_of_the_version_are_part_of_the_transaction(client: Any) -> None:
    client.set_model_version_tag("toy", "3", "sft.promoted_by", "ada")
    tags = {"sft.promoted_by": "bo", "sft.promoted_at": "now"}
    writes = (*WRITES, "set_model_version_tag", "delete_model_version_tag")
    for step in range(1, 6):
        failing = FailingClient(client, step, OSError("no store"), is_final=False, writes=writes)
        with pytest.raises(OSError, match="no store"):
            move_aliases(failing, "toy", {"champion": 3}, {3: tags})  # type: ignore[arg-type]
        assert client.get_model_version("toy", "3").tags == {"sft.promoted_by": "ada"}
        assert read_holders(client, "toy", NAMES) == BEFORE
    move_aliases(client, "toy", {"champion": 3}, {3: tags})
    assert client.get_model_version("toy", "3").tags == tags


def test_unreadable_journal_is_dropped(client: Any) -> None:
    client.set_registered_model_tag("toy", JOURNAL_TAG, '{"champion": 1')
    settle_aliases(client, "toy")
    assert journal(client) is None
    assert read_holders(client, "toy", NAMES) == BEFORE


def test_settle_aliases_accepts_a_name_that_does_not_exist(client: Any) -> None:
    settle_aliases(client, "unknown")
    assert read_holders(client, "unknown", NAMES) == dict.fromkeys(NAMES)


def test_command_outlives_the_lease_of_a_dead_process_whose_transaction_it_undoes() -> None:
    assert aliases.RESTORE_SECONDS > lease.LEASE_SECONDS + 2 * lease.SETTLE_SECONDS


def test_lease_that_is_lost_before_the_first_move_undoes_the_transaction(client: Any) -> None:
    with promotion_lease(client, "toy") as held:
        client.set_registered_model_tag("toy", LEASE_TAG, '{"token": "of another machine"}')
        with pytest.raises(RegistryBusy):
            move_aliases(client, "toy", MOVES, None, held)
    assert read_holders(client, "toy", NAMES) == BEFORE
    assert journal(client) is None
