"""Promoting and rolling back by hand, against a real store with real toy models."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

import flows.cli.promote as commands
from flows.cli.main import main
from schemas.config.registry import RegistryConfig
from schemas.errors import PromotionRefused, RegistryError
from schemas.records.references import Approval
from tasks.registry.aliases import read_holders
from tasks.registry.approvals import note_answer
from tasks.registry.store import connect
from tasks.registry.tags import APPROVAL_TAG, JOURNAL_TAG
from tasks.release import promotion
from tasks.release.by_hand import promote_by_hand, roll_back
from tests.support.evidence import CONFIG
from tests.support.promotions import Candidates, decided, holders, promote

pytestmark = pytest.mark.integration

REGISTRY = CONFIG.registry


def test_roll_back_changes_places_and_back_again(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    with pytest.raises(RegistryError, match='no version has the alias "previous"'):
        roll_back(REGISTRY, "")
    promote(trusted.versions[1], decided(trusted, 1, 1).decision, REGISTRY)
    done = roll_back(REGISTRY, "worse in use")
    assert (done.version, done.former_version) == (1, 2)
    assert holders() == {"champion": 1, "challenger": None, "previous": 2}
    assert connect().get_model_version("toy", "1").tags["sft.promotion_reason"] == "worse in use"
    roll_back(REGISTRY, "")
    assert holders() == {"champion": 2, "challenger": None, "previous": 1}


def test_hand_promotion_takes_the_challenger_or_a_version(trusted: Candidates) -> None:
    with pytest.raises(RegistryError, match="versions 2, 1"):
        promote_by_hand(REGISTRY, None, "", is_forced=False)
    with pytest.raises(RegistryError, match="no such version"):
        promote_by_hand(REGISTRY, 7, "", is_forced=False)
    assert promote_by_hand(REGISTRY, 2, "", is_forced=False).version == 2
    assert holders() == {"champion": 2, "challenger": None, "previous": None}


def test_hand_promotion_of_a_refused_version_takes_force_and_a_reason(trusted: Candidates) -> None:
    client = connect()
    client.set_model_version_tag("toy", "1", "sft.decision", "refuse")
    try:
        with pytest.raises(PromotionRefused) as caught:
            promote_by_hand(REGISTRY, 1, "", is_forced=False)
        assert caught.value.exit_code == 1
        with pytest.raises(RegistryError, match="needs a reason"):
            promote_by_hand(REGISTRY, 1, " ", is_forced=True, person="ada")
        done = promote_by_hand(REGISTRY, 1, "we need it", is_forced=True, person="ada")
        assert done.version == 1
        tags = client.get_model_version("toy", "1").tags
        assert tags["sft.promotion_reason"] == "we need it"
        assert (tags["sft.promoted_by"], tags["sft.promotion_is_forced"]) == ("ada", "true")
    finally:
        client.set_model_version_tag("toy", "1", "sft.decision", "promote")


def test_hand_promotion_of_a_version_that_a_person_declined_takes_force(
    trusted: Candidates,
) -> None:
    no = Approval(is_approved=False, reason="refused by ada: terse")
    note_answer(connect(), "toy", 1, no, trusted.evidence[0].decision.sha256)
    try:
        with pytest.raises(PromotionRefused, match="refused by ada: terse"):
            promote_by_hand(REGISTRY, 1, "", is_forced=False)
        assert promote_by_hand(REGISTRY, 1, "ada agreed", is_forced=True).version == 1
    finally:
        connect().delete_model_version_tag("toy", "1", APPROVAL_TAG)


def test_version_that_is_refused_while_it_waits_is_not_promoted(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()

    def refuse(*_: object) -> None:
        client.set_model_version_tag("toy", "1", "sft.decision", "refuse")

    monkeypatch.setattr(promotion, "check_reload", refuse)
    try:
        with pytest.raises(PromotionRefused):
            promote_by_hand(REGISTRY, 1, "", is_forced=False)
    finally:
        client.set_model_version_tag("toy", "1", "sft.decision", "promote")
    assert set(holders().values()) == {None}


def test_roll_back_without_another_version_is_an_error(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    connect().set_registered_model_alias("toy", "previous", "1")
    with pytest.raises(RegistryError, match="no other version to go back to"):
        roll_back(REGISTRY, "")


def test_roll_back_after_an_interruption_swaps_what_was_champion(trusted: Candidates) -> None:
    promote(trusted.versions[0], trusted.evidence[0].decision, REGISTRY)
    promote(trusted.versions[1], decided(trusted, 1, 1).decision, REGISTRY)
    client = connect()
    journal = {"aliases": {"previous": [1, 2], "champion": [2, 1]}}  # killed after one move
    client.set_registered_model_tag("toy", JOURNAL_TAG, json.dumps(journal))
    client.set_registered_model_alias("toy", "previous", "2")
    done = roll_back(REGISTRY, "")
    assert (done.version, done.former_version) == (1, 2)
    assert holders() == {"champion": 1, "challenger": None, "previous": 2}


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
