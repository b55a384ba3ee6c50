"""The lease of a name: one holder, whatever the address, the host or the pod, and none that is dead."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import RegistryBusy
from tasks.registry import lease
from tasks.registry.lease import promotion_lease
from tasks.registry.store import connect
from tasks.registry.tags import LEASE_TAG

pytestmark = pytest.mark.integration


def token_in(toy_client: Any) -> str | None:
    text = toy_client.get_registered_model("toy").tags.get(LEASE_TAG)
    return None if text is None else json.loads(text)["token"]


def test_lease_is_written_and_given_back(toy_client: Any) -> None:
    with promotion_lease(toy_client, "toy") as held:
        assert token_in(toy_client) == held.token
        held.require()
    assert token_in(toy_client) is None


def test_other_spelling_of_the_store_does_not_let_a_second_one_in(
    toy_client: Any, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with promotion_lease(toy_client, "toy"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_home}/./mlflow.db")
        other = connect()
        with (
            pytest.raises(RegistryBusy, match="this work directory"),
            promotion_lease(other, "toy", 0.2),
        ):
            pass


@pytest.mark.parametrize("host", ["worker", "another"])
def test_other_work_directory_does_not_enter_whatever_the_host_name(
    toy_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    with promotion_lease(toy_client, "toy"):
        monkeypatch.setenv("SFT_HOME", str(tmp_path / "other"))
        with (
            pytest.raises(RegistryBusy, match="another machine"),
            promotion_lease(toy_client, "toy", 0.2),
        ):
            pass


def hold_and_die(home: str) -> None:
    """Take the lease and end without giving it back."""
    os.environ["SFT_HOME"] = home
    with promotion_lease(connect(), "toy"):
        os._exit(9)


def test_lease_of_a_dead_process_of_the_same_folder_is_free_at_once(
    toy_client: Any, mlflow_home: Path
) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=hold_and_die, args=(str(mlflow_home),)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert token_in(toy_client)
    with promotion_lease(toy_client, "toy", wait_seconds=0.2) as held:
        assert token_in(toy_client) == held.token


def test_lease_that_is_not_renewed_is_taken_over_whatever_the_clock_of_its_holder(
    toy_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"token": "t", "renewed_at": f"{time.time() + 9999}"}
    toy_client.set_registered_model_tag("toy", LEASE_TAG, json.dumps(gone))
    with pytest.raises(RegistryBusy), promotion_lease(toy_client, "toy", wait_seconds=0.2):
        pass
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.3)
    with promotion_lease(toy_client, "toy", wait_seconds=5) as held:
        assert token_in(toy_client) == held.token


def test_living_holder_renews_its_lease(
    toy_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    with promotion_lease(toy_client, "toy") as held:
        monkeypatch.setenv("SFT_HOME", str(tmp_path / "other"))
        with pytest.raises(RegistryBusy), promotion_lease(toy_client, "toy", wait_seconds=2.5):
            pass
        held.require()


def test_lost_lease_is_noticed_and_not_given_back(toy_client: Any) -> None:
    with promotion_lease(toy_client, "toy") as held:
        toy_client.set_registered_model_tag("toy", LEASE_TAG, json.dumps({"token": "other"}))
        with pytest.raises(RegistryBusy, match="another process took the lease"):
            held.require()
    assert token_in(toy_client) == "other"


def test_lease_tag_edited_by_hand_is_overwritten_in_the_end(
    toy_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.2)
    toy_client.set_registered_model_tag("toy", LEASE_TAG, "not JSON")
    with promotion_lease(toy_client, "toy", wait_seconds=5) as held:
        assert token_in(toy_client) == held.token


def test_threads_take_turns(toy_client: Any) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with promotion_lease(connect(), "toy", wait_seconds=60):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert most == [1, 1, 1, 1]
