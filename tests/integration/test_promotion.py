"""Promoting by the flow's stage, against a real store with real toy models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.errors import (
    ChampionChanged,
    RegistryBusy,
    ReloadMismatch,
)
from schemas.records.decision import Decision
from schemas.records.references import Approval
from tasks.promote_model import verify_alias
from tasks.registry.store import connect
from tasks.registry.tags import LEASE_TAG, MODEL_TAG, WEIGHTS_TAG
from tasks.release import promotion
from tasks.release.by_hand import promote_by_hand, roll_back
from tests.support.evidence import CONFIG, decide_again
from tests.support.promotions import Candidates, decided, holders, promote

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
REGISTRY = CONFIG.registry


def test_promotion_gives_all_aliases_and_keeps_the_former_champion(
    candidates: Candidates,
) -> None:
    first = promote(candidates.versions[0], candidates.evidence[0].decision, REGISTRY)
    assert (first.is_promoted, first.previous_version) == (True, None)
    assert holders() == {"champion": 1, "challenger": None, "previous": None}
    second = promote(candidates.versions[1], decided(candidates, 1, 1).decision, REGISTRY)
    assert (second.is_promoted, second.previous_version) == (True, 1)
    assert holders() == {"champion": 2, "challenger": None, "previous": 1}
    tags = connect().get_model_version("toy", "2").tags
    assert (tags["sft.promoted_by"], tags["sft.promoted_over"]) == ("train-sft", "1")
    assert verify_alias(second) == ""
    again = promote(candidates.versions[1], decided(candidates, 1, 1).decision, REGISTRY)
    assert (again.is_promoted, again.previous_version) == (True, 1)
    assert holders() == {"champion": 2, "challenger": None, "previous": 1}


def test_refusal_moves_no_alias(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    home = Path(os.environ["SFT_HOME"])
    refused = decide_again(trusted.evidence[1], home, Decision.REFUSE, 1)
    found = promote(trusted.versions[1], refused.decision, REGISTRY)
    assert (found.is_promoted, found.previous_version) == (False, 1)
    assert found.reason == refused.decision.reason
    assert holders() == {"champion": 1, "challenger": None, "previous": None}


def test_person_who_says_no_is_heard(trusted: Candidates) -> None:
    no = Approval(is_approved=False, reviewer="ada", reason="refused by ada: too terse")
    found = promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY, no)
    assert (found.is_promoted, found.reason) == (False, "refused by ada: too terse")
    assert holders()["champion"] is None
    yes = Approval(is_approved=True, reviewer="ada", reason="approved by ada")
    assert promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY, yes).is_promoted
    assert connect().get_model_version("toy", "1").tags["sft.promoted_by"] == "ada"


def test_decision_against_a_former_champion_is_made_again(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    with pytest.raises(ChampionChanged, match="version 1 as champion") as caught:
        promote(trusted.versions[1], trusted.evidence[1].decision, REGISTRY)
    assert caught.value.expected == "no champion"
    assert holders() == {"champion": 1, "challenger": None, "previous": None}


def test_no_alias_moves_when_the_registry_gives_back_another_model(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mismatch(*_: object) -> None:
        raise ReloadMismatch("not what was judged")

    monkeypatch.setattr(promotion, "check_reload", mismatch)
    with pytest.raises(ReloadMismatch):
        promote(candidates.versions[0], candidates.evidence[0].decision, REGISTRY)
    assert set(holders().values()) == {None}


def test_no_alias_moves_when_the_promotion_cannot_be_noted(
    trusted: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no store")

    monkeypatch.setattr("mlflow.MlflowClient.set_model_version_tag", fail)
    with pytest.raises(OSError, match="no store"):
        promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    assert set(holders().values()) == {None}


@pytest.mark.parametrize("share_home", [True, False], ids=["one-machine", "two-machines"])
def test_of_two_promotions_at_once_one_wins_and_the_other_sees_it(
    candidates: Candidates, tmp_path: Path, share_home: bool
) -> None:
    processes = []
    for place in range(2):
        home = tmp_path / "shared" if share_home else tmp_path / str(place)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.promotions"],
            cwd=ROOT,
            env={**os.environ, "SFT_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        asked = {
            "version": candidates.versions[place].model_dump(mode="json"),
            "decision": candidates.evidence[place].decision.model_dump(mode="json"),
            "registry": REGISTRY.model_dump(mode="json"),
        }
        processes.append((process, json.dumps(asked)))
    with ThreadPoolExecutor(2) as pool:  # both get their input at once
        words = list(pool.map(lambda one: one[0].communicate(one[1], timeout=300)[0], processes))
    assert [process.returncode for process, _ in processes] == [0, 0]
    winner = words.index("promoted") + 1
    assert words[2 - winner] == f"overtaken by version {winner} as champion"
    assert holders() == {"champion": winner, "challenger": None, "previous": None}
    assert LEASE_TAG not in connect().get_registered_model("toy").tags


def test_alias_that_a_person_moves_during_the_check_stays(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def point_at_version_1(*_: object) -> None:
        connect().set_registered_model_alias("toy", "champion", "1")

    monkeypatch.setattr(promotion, "check_reload", point_at_version_1)
    with pytest.raises(ChampionChanged, match="version 1 as champion"):
        promote(candidates.versions[1], decided(candidates, 1, None).decision, REGISTRY)
    assert holders() == {"champion": 1, "challenger": None, "previous": None}
    connect().delete_registered_model_alias("toy", "champion")
    with pytest.raises(ChampionChanged, match="files of the version were checked"):
        promote_by_hand(REGISTRY, 2, "", is_forced=False)
    assert holders() == {"champion": 1, "challenger": None, "previous": None}


def test_no_alias_moves_when_weights_or_lease_are_lost_during_the_check(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()

    def lose_weights(*_: object) -> None:
        client.set_model_version_tag("toy", "1", WEIGHTS_TAG, "deleting")

    def lose_lease(*_: object) -> None:
        client.set_registered_model_tag("toy", LEASE_TAG, '{"token": "of another machine"}')

    try:
        monkeypatch.setattr(promotion, "check_reload", lose_weights)
        with pytest.raises(ReloadMismatch, match="weights of the version were deleted"):
            promote_by_hand(REGISTRY, 1, "", is_forced=False)
        client.delete_model_version_tag("toy", "1", WEIGHTS_TAG)
        monkeypatch.setattr(promotion, "check_reload", lose_lease)
        with pytest.raises(RegistryBusy, match="another process took the lease"):
            promote_by_hand(REGISTRY, 1, "", is_forced=False)
    finally:
        client.delete_registered_model_tag("toy", LEASE_TAG)
    assert set(holders().values()) == {None}


def test_second_version_of_the_champion_is_no_contest(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    client = connect()
    first, second = (client.get_model_version("toy", number).tags for number in "12")
    client.set_model_version_tag("toy", "2", MODEL_TAG, first[MODEL_TAG])
    try:
        found = promote(trusted.versions[1], decided(trusted, 1, None).decision, REGISTRY)
    finally:
        client.set_model_version_tag("toy", "2", MODEL_TAG, second[MODEL_TAG])
    assert (found.is_promoted, found.previous_version) == (False, 1)
    assert found.reason == "version 1, which is champion, is this very model"
    assert holders() == {"champion": 1, "challenger": None, "previous": None}


def test_decision_that_was_carried_out_is_not_repeated_after_a_roll_back(
    trusted: Candidates,
) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    decision = decided(trusted, 1, 1).decision
    promote(trusted.versions[1], decision, REGISTRY)
    roll_back(REGISTRY, "worse in use")
    again = promote(trusted.versions[1], decision, REGISTRY)
    assert not again.is_promoted
    assert "version 1 followed it" in again.reason
    assert holders() == {"champion": 1, "challenger": None, "previous": 2}


def test_model_that_was_rolled_back_is_promoted_by_no_run_until_a_person_does(
    trusted: Candidates,
) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    promote_by_hand(REGISTRY, 2, "", is_forced=False)
    roll_back(REGISTRY, "worse in use", person="ada")
    another = decided(trusted, 1, 1).decision
    found = promote(trusted.versions[1], another, REGISTRY)
    assert not found.is_promoted
    assert "was rolled back at" in found.reason
    assert "by ada" in found.reason
    yes = Approval(is_approved=True, reviewer="bo", reason="approved by bo")
    assert promote(trusted.versions[1], another, REGISTRY, yes).is_promoted
    roll_back(REGISTRY, "")
    roll_back(REGISTRY, "")
    assert holders() == {"champion": 2, "challenger": None, "previous": 1}


def test_champion_without_files_is_replaced_by_the_same_model(
    trusted: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    client = connect()
    first, second = (client.get_model_version("toy", number).tags for number in "12")
    client.set_model_version_tag("toy", "2", MODEL_TAG, first[MODEL_TAG])
    monkeypatch.setattr("tasks.promote_model.has_files", lambda *_: False)
    try:
        found = promote(trusted.versions[1], decided(trusted, 1, None).decision, REGISTRY)
    finally:
        client.set_model_version_tag("toy", "2", MODEL_TAG, second[MODEL_TAG])
    assert found.is_promoted
    assert holders() == {"champion": 2, "challenger": None, "previous": None}


def test_deleted_champion_is_replaced_without_losing_the_way_back(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    client = connect()
    client.set_registered_model_alias("toy", "previous", "1")
    client.delete_registered_model_alias("toy", "champion")
    with pytest.raises(ChampionChanged, match="version 1 as champion"):
        promote(trusted.versions[1], decided(trusted, 1, None).decision, REGISTRY)
    promote(trusted.versions[1], decided(trusted, 1, 1).decision, REGISTRY)
    assert holders() == {"champion": 2, "challenger": None, "previous": 1}
