"""Promoting against a real store with real toy models: by the flow's stage and by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import flows.cli.promote as commands
from flows.cli.main import main
from schemas.config.registry import RegistryConfig
from schemas.errors import (
    ChampionChanged,
    PromotionRefused,
    RegistryBusy,
    RegistryError,
    ReloadMismatch,
)
from schemas.records.decision import Decision
from schemas.records.references import Approval, Evidence, VersionReference
from tasks.promote_model import verify_alias
from tasks.registry.aliases import read_holders
from tasks.registry.store import connect
from tasks.registry.tags import LEASE_TAG
from tasks.release import promotion
from tasks.release.by_hand import promote_by_hand, roll_back
from tasks.release.promotion import promotion_lease
from tests.support.evidence import CONFIG, decide_again, make_evidence, register
from tests.support.promotions import promote

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
REGISTRY = CONFIG.registry
ALIASES = ("champion", "challenger", "previous")


@dataclass
class Candidates:
    """Two judged models, registered as versions 1 and 2, and nobody is champion."""

    home: Path
    evidence: tuple[Evidence, Evidence]
    versions: tuple[VersionReference, VersionReference]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> Candidates:
    home = tmp_path_factory.mktemp("promotion")
    store = tmp_path_factory.mktemp("store")
    shutil.copy(empty_mlflow_db, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
        connect().create_experiment("sft-flow", artifact_location=(store / "artifacts").as_uri())
        evidence = (make_evidence(home, seed=0), make_evidence(home, seed=1))
        versions = (register(evidence[0]), register(evidence[1]))
    return Candidates(store, evidence, versions)


@pytest.fixture
def candidates(
    registered: Candidates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Candidates]:
    """The candidates, with no alias and a work directory of the test's own."""
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.home}/mlflow.db")
    monkeypatch.setattr("tasks.release.promotion.SETTLE_SECONDS", 0.05)
    client = connect()
    yield registered
    for alias in client.get_registered_model("toy").aliases:
        client.delete_registered_model_alias("toy", alias)


@pytest.fixture
def trusted(candidates: Candidates, monkeypatch: pytest.MonkeyPatch) -> Candidates:
    """The candidates, whose files are not loaded again: that takes ten seconds each time."""
    monkeypatch.setattr(promotion, "check_reload", lambda *_: None)
    return candidates


def holders() -> dict[str, int | None]:
    return read_holders(connect(), "toy", ALIASES)


def decided(candidates: Candidates, place: int, against: int | None) -> Evidence:
    return decide_again(
        candidates.evidence[place], Path(os.environ["SFT_HOME"]), Decision.PROMOTE, against
    )


def test_promotion_gives_all_aliases_and_keeps_the_former_champion(
    candidates: Candidates,
) -> None:
    first = promote(candidates.versions[0], candidates.evidence[0].decision, REGISTRY)
    assert (first.is_promoted, first.previous_version) == (True, None)
    assert holders() == {"champion": 1, "challenger": 1, "previous": None}
    second = promote(candidates.versions[1], decided(candidates, 1, 1).decision, REGISTRY)
    assert (second.is_promoted, second.previous_version) == (True, 1)
    assert holders() == {"champion": 2, "challenger": 2, "previous": 1}
    tags = connect().get_model_version("toy", "2").tags
    assert tags["sft.promoted_by"] == "train-sft"
    assert verify_alias(second) == ""
    again = promote(candidates.versions[1], decided(candidates, 1, 1).decision, REGISTRY)
    assert (again.is_promoted, again.previous_version) == (True, None)
    assert holders() == {"champion": 2, "challenger": 2, "previous": 1}


def test_refusal_moves_the_challenger_alone(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    home = Path(os.environ["SFT_HOME"])
    refused = decide_again(trusted.evidence[1], home, Decision.REFUSE, 1)
    found = promote(trusted.versions[1], refused.decision, REGISTRY)
    assert (found.is_promoted, found.previous_version) == (False, 1)
    assert found.reason == refused.decision.reason
    assert holders() == {"champion": 1, "challenger": 2, "previous": None}


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
    assert holders() == {"champion": 1, "challenger": 1, "previous": None}


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

    monkeypatch.setattr(promotion, "note_promotion", fail)
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
    assert holders() == {"champion": winner, "challenger": winner, "previous": None}
    assert LEASE_TAG not in connect().get_registered_model("toy").tags


def test_lease_of_another_machine_is_waited_for_until_it_runs_out(candidates: Candidates) -> None:
    client = connect()
    held = {"token": "t", "home": "elsewhere", "until": "99999999999"}
    client.set_registered_model_tag("toy", LEASE_TAG, json.dumps(held))
    try:
        with (
            pytest.raises(RegistryBusy, match="another machine"),
            promotion_lease(client, "toy", wait_seconds=0.3),
        ):
            pass
        client.set_registered_model_tag("toy", LEASE_TAG, json.dumps({**held, "until": "1"}))
        with promotion_lease(client, "toy", wait_seconds=0.3):
            assert "elsewhere" not in client.get_registered_model("toy").tags[LEASE_TAG]
    finally:
        assert LEASE_TAG not in client.get_registered_model("toy").tags


def test_roll_back_changes_places_and_back_again(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    with pytest.raises(RegistryError, match='no version has the alias "previous"'):
        roll_back(REGISTRY, "")
    promote(trusted.versions[1], decided(trusted, 1, 1).decision, REGISTRY)
    done = roll_back(REGISTRY, "worse in use")
    assert (done.version, done.former_version) == (1, 2)
    assert holders() == {"champion": 1, "challenger": 2, "previous": 2}
    assert connect().get_model_version("toy", "1").tags["sft.promotion_reason"] == "worse in use"
    roll_back(REGISTRY, "")
    assert holders() == {"champion": 2, "challenger": 2, "previous": 1}


def test_hand_promotion_takes_the_challenger_or_a_version(trusted: Candidates) -> None:
    with pytest.raises(RegistryError, match="versions 2, 1"):
        promote_by_hand(REGISTRY, None, "", is_forced=False)
    with pytest.raises(RegistryError, match="no such version"):
        promote_by_hand(REGISTRY, 7, "", is_forced=False)
    assert promote_by_hand(REGISTRY, 2, "", is_forced=False).version == 2
    assert holders() == {"champion": 2, "challenger": None, "previous": None}


def test_hand_promotion_of_a_refused_version_takes_force(trusted: Candidates) -> None:
    client = connect()
    client.set_model_version_tag("toy", "1", "sft.decision", "refuse")
    try:
        with pytest.raises(PromotionRefused) as caught:
            promote_by_hand(REGISTRY, 1, "", is_forced=False)
        assert caught.value.exit_code == 1
        assert promote_by_hand(REGISTRY, 1, "we need it", is_forced=True).version == 1
        assert client.get_model_version("toy", "1").tags["sft.promotion_reason"] == "we need it"
    finally:
        client.set_model_version_tag("toy", "1", "sft.decision", "promote")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_commands_promote_show_and_roll_back(
    trusted: Candidates, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "quiet_libraries", lambda: None)
    promoted = invoke("promote", "toy", "1", "--json")
    assert promoted.exit_code == 0, promoted.output
    assert json.loads(promoted.stdout)["version"] == 1
    assert invoke("promote", "toy", "2").exit_code == 0
    status = json.loads(invoke("status", "toy", "--json").stdout)
    assert status["holders"] == {"champion": 2, "challenger": None, "previous": 1}
    assert status["versions"][0]["loss"] == 2.0
    assert status["versions"][0]["promotion_reason"] == "by hand"
    shown = invoke("status", "toy")
    assert "toy: 2 versions" in shown.output
    back = invoke("rollback", "toy", "--reason", "worse")
    assert "toy version 1 is champion (before: version 2)" in back.output


def test_commands_answer_unknown_names_with_what_there_is(candidates: Candidates) -> None:
    result = invoke("status", "boy")
    assert result.exit_code == 2
    assert "models toy" in result.stderr
    assert invoke("promote", "toy", "1", "--force").exit_code == 2
    assert invoke("promote", "toy", "nonsense").exit_code == 2


def test_registry_of_another_alias_is_left_alone(trusted: Candidates) -> None:
    other = RegistryConfig(name="toy", alias="stable", n_reload_prompts=1)
    promote_by_hand(other, 1, "", is_forced=False)
    assert read_holders(connect(), "toy", ("stable", "champion")) == {"stable": 1, "champion": None}
    connect().delete_registered_model_alias("toy", "stable")
