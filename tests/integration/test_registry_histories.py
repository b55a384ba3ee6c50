"""Random histories of a registered name on a real SQLite store: whatever happens, nothing is lost.

Runs, promotions, roll-backs, aliases moved and deleted by hand, deleted versions and files, retention, a
second writer, and a crash between any two writes to MLflow, in random order. Models are files of a few
bytes: what a version is to the registry is its tags, its aliases and its files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schemas.config.registry import RegistryConfig
from schemas.errors import ChampionChanged, SftFlowError
from schemas.records.decision import Decision
from schemas.records.references import Approval, DecisionReference
from tasks import promote_model as stage
from tasks.registry import lease
from tasks.registry.aliases import read_holders, settle_aliases, version_exists
from tasks.registry.approvals import note_answer
from tasks.registry.champion import find_opponent
from tasks.registry.store import connect, has_model_files
from tasks.registry.tags import (
    DECISION_TAG,
    FORCED_TAG,
    JOURNAL_TAG,
    LEASE_TAG,
    PROMOTED_AT_TAG,
    PROMOTED_DECISION_TAG,
    PROMOTION_REASON_TAG,
    WEIGHTS_TAG,
)
from tasks.release import promotion
from tasks.release.by_hand import promote_by_hand, roll_back
from tasks.release.retention import prune_unpromoted
from tests.support.histories import add_version

pytestmark = pytest.mark.integration

ALIASES = ("champion", "previous", "challenger")
WRITES = (
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
    "delete_model_version_tag",
)
HOMES = ("one", "other")


class Crash(BaseException):
    """The process is killed here: nothing of it is cleaned up."""


class DyingClient:
    """The real client; after some writes, the process is dead and writes nothing more."""

    def __init__(self, client: Any, n_writes: int) -> None:
        self.client, self.left = client, n_writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if name not in WRITES:
            return found

        def write(*arguments: Any, **named: Any) -> Any:
            if self.left <= 0:
                raise Crash
            self.left -= 1
            return found(*arguments, **named)

        return write


@contextlib.contextmanager
def crashing(n_writes: int | None) -> Iterator[None]:
    """Let the process die after some writes; None lets it live."""
    if n_writes is None:
        yield
        return
    dying = DyingClient(connect(), n_writes)
    modules = ("tasks.promote_model", "tasks.release.by_hand", "tasks.registry.champion")
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Crash):
        for module in modules:
            patch.setattr(f"{module}.connect", lambda: dying)
        yield


class Registry(RuleBasedStateMachine):
    """One name in one store, with two machines that write to it."""

    @initialize()
    def start(self) -> None:
        self.root, self.experiment = STORE
        SEEN["histories"] += 1
        self.name = f"toy-{uuid.uuid4().hex[:8]}"
        self.registry = RegistryConfig(name=self.name, keep_rejected=1)
        self.use("one")
        connect().create_registered_model(self.name)
        self.n_models = 0
        self.deleted: set[int] = set()
        self.decided: list[tuple[int, DecisionReference, Approval | None]] = []
        self.by_hand: set[int] = set()
        """Versions to which a person gave the champion alias in MLflow's page."""

    def use(self, home: str) -> None:
        os.environ["SFT_HOME"] = str(self.root / home)

    def versions(self) -> list[Any]:
        found = connect().search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda one: int(one.version))

    def pick(self, number: int) -> Any:
        found = self.versions()
        return found[number % len(found)]

    # What runs do

    @rule(
        is_worse=st.booleans(),
        same_weights=st.booleans(),
        mode=st.sampled_from(["enforce", "enforce", "dry_run"]),
        answer=st.sampled_from([None, None, True, False]),
        home=st.sampled_from(HOMES),
        n_writes=st.none() | st.integers(0, 14),
    )
    def run(
        self,
        is_worse: bool,
        same_weights: bool,
        mode: str,
        answer: bool | None,
        home: str,
        n_writes: int | None,
    ) -> None:
        """Evaluate a new version against the opponent, register it, and promote it or not."""
        self.use(home)
        if not same_weights or not self.n_models:
            self.n_models += 1
        model = f"model-{self.n_models}"
        opponent = find_opponent(self.registry, model)
        version, decision = add_version(
            self.registry, self.experiment, model, opponent, is_better=not is_worse, mode=mode
        )
        approval = None
        if answer is not None and decision.is_promotion:
            approval = Approval(is_approved=answer, reviewer="ada", reason="said ada")
            note_answer(connect(), self.name, version, approval, decision.sha256)
        with crashing(n_writes):
            self.promote(version, decision, approval)
            connect().set_registered_model_alias(self.name, "challenger", str(version))
        self.decided.append((version, decision, approval))

    @precondition(lambda self: self.decided)
    @rule(
        number=st.integers(0, 20),
        home=st.sampled_from(HOMES),
        n_writes=st.none() | st.integers(0, 14),
    )
    def repeat_a_run(self, number: int, home: str, n_writes: int | None) -> None:
        """Carry out a decision again, as a run does that has lost its cache."""
        self.use(home)
        version, decision, approval = self.decided[number % len(self.decided)]
        if not version_exists(connect(), self.name, version):
            return
        settle_aliases(connect(), self.name)
        before = read_holders(connect(), self.name, ["champion"])["champion"]
        tags = connect().get_model_version(self.name, str(version)).tags
        with self.one_clear_error(), crashing(n_writes):
            self.promote(version, decision, approval)
        if before and tags.get(PROMOTED_DECISION_TAG) == decision.sha256:
            settle_aliases(connect(), self.name)
            after = read_holders(connect(), self.name, ["champion"])["champion"]
            assert after == before, "a decision was carried out twice"

    def promote(self, version: int, decision: DecisionReference, approval: Approval | None) -> None:
        if stage.refusal(decision, approval):
            return
        with contextlib.suppress(ChampionChanged):  # the flow decides again
            stage.promote(vars(stage)["connect"](), self.registry, version, decision, approval)

    # What people do with the product

    @precondition(lambda self: self.versions())
    @rule(
        number=st.integers(0, 20),
        is_forced=st.booleans(),
        home=st.sampled_from(HOMES),
        n_writes=st.none() | st.integers(0, 14),
    )
    def promote_by_hand(
        self, number: int, is_forced: bool, home: str, n_writes: int | None
    ) -> None:
        self.use(home)
        version = int(self.pick(number).version)
        with self.one_clear_error(), crashing(n_writes):
            promote_by_hand(self.registry, version, "we need it", is_forced=is_forced)

    @rule(home=st.sampled_from(HOMES), n_writes=st.none() | st.integers(0, 14))
    def roll_back(self, home: str, n_writes: int | None) -> None:
        self.use(home)
        before = read_holders(connect(), self.name, ALIASES)
        is_settled = JOURNAL_TAG not in connect().get_registered_model(self.name).tags
        with self.one_clear_error() as errors, crashing(n_writes):
            roll_back(self.registry, "worse in use")
        if n_writes is None and is_settled and not errors:
            after = read_holders(connect(), self.name, ALIASES)
            assert after["champion"] == before["previous"]
            assert after["previous"] in (before["champion"], before["previous"])

    @rule(home=st.sampled_from(HOMES), n_writes=st.none() | st.integers(0, 6))
    def retain(self, home: str, n_writes: int | None) -> None:
        self.use(home)
        client: Any = connect() if n_writes is None else DyingClient(connect(), n_writes)
        with contextlib.suppress(Crash):
            prune_unpromoted(client, self.registry, lambda *_: None)

    @rule(home=st.sampled_from(HOMES))
    def look(self, home: str) -> None:
        """Any command restores order before it reads the aliases."""
        self.use(home)
        settle_aliases(connect(), self.name)
        assert JOURNAL_TAG not in connect().get_registered_model(self.name).tags

    # What people do in MLflow's page, at any time

    @precondition(lambda self: self.versions())
    @rule(number=st.integers(0, 20), alias=st.sampled_from(["champion", "previous"]))
    def set_alias(self, number: int, alias: str) -> None:
        version = self.pick(number)
        if WEIGHTS_TAG in version.tags:
            return  # of a version without weights nobody makes a champion
        connect().set_registered_model_alias(self.name, alias, version.version)
        self.by_hand.add(int(version.version))

    @rule(alias=st.sampled_from(ALIASES))
    def delete_alias(self, alias: str) -> None:
        connect().delete_registered_model_alias(self.name, alias)

    @precondition(lambda self: self.versions())
    @rule(number=st.integers(0, 20))
    def delete_version(self, number: int) -> None:
        version = self.pick(number)
        if not version.aliases:
            connect().delete_model_version(self.name, version.version)

    @precondition(lambda self: self.versions())
    @rule(number=st.integers(0, 20))
    def delete_logged_model(self, number: int) -> None:
        """As a clean-up on the server does with what has no alias."""
        version = self.pick(number)
        if not version.aliases and int(version.version) not in self.deleted:
            connect().delete_logged_model(str(version.source).rsplit("/", 1)[-1])
            self.deleted.add(int(version.version))

    @contextlib.contextmanager
    def one_clear_error(self) -> Iterator[list[SftFlowError]]:
        errors: list[SftFlowError] = []
        try:
            yield errors
        except SftFlowError as error:
            errors.append(error)
        assert all(error.fix for error in errors)

    # What holds after each

    @invariant()
    def nothing_is_lost(self) -> None:
        """A champion has its files, and passed its gates or was forced with a reason."""
        if not hasattr(self, "name"):
            return
        client = connect()
        if JOURNAL_TAG in client.get_registered_model(self.name).tags:
            return  # a killed process left it; what the next command finds is checked after that
        for alias, number in client.get_registered_model(self.name).aliases.items():
            version = client.get_model_version(self.name, str(number))
            if alias == "challenger" and WEIGHTS_TAG in version.tags:
                continue  # refused, and newer ones were refused since then
            assert WEIGHTS_TAG not in version.tags, f"{alias} has no weights"
            if int(number) not in self.deleted:
                assert has_model_files(client, str(version.source)), f"{alias} has no files"
            if alias != "champion" or int(number) in self.by_hand:
                continue
            assert version.tags.get(PROMOTED_AT_TAG), "champion that nothing promoted"
            was_passed = version.tags[DECISION_TAG] == Decision.PROMOTE.value
            was_forced = version.tags[FORCED_TAG] == "true"
            assert was_passed or was_forced
            assert version.tags[PROMOTION_REASON_TAG]

    def teardown(self) -> None:
        if hasattr(self, "name"):
            tags = connect().get_registered_model(self.name).tags
            SEEN["interrupted"] += JOURNAL_TAG in tags
            SEEN["promoted"] += any(PROMOTED_AT_TAG in one.tags for one in self.versions())
            self.look("one")
            self.nothing_is_lost()


SEEN: Counter[str] = Counter()
"""How often something happened in all histories."""
STORE: list[Any] = []
"""Folder of the store, and the experiment of its models; each history has a name of its own."""


def explore(n_histories: int) -> None:
    """Try histories, and see that they were tried, promoted models and were interrupted."""
    SEEN.clear()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Registry,
        settings=settings(
            max_examples=n_histories,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    assert SEEN["histories"] >= n_histories
    assert SEEN["promoted"] > n_histories / 10
    assert SEEN["interrupted"] > 0


@pytest.fixture
def quick(empty_mlflow_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are not loaded: they have no model. Waits are short: nothing here is slow to write."""
    monkeypatch.setattr(promotion, "check_reload", lambda *_: None)
    monkeypatch.setattr(lease, "SQLITE_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.02)
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "one"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    place = (tmp_path / "artifacts").as_uri()
    STORE[:] = [tmp_path, connect().create_experiment("models", artifact_location=place)]


def test_hundred_histories(quick: None) -> None:
    explore(100)


@pytest.mark.slow
def test_two_thousand_histories(quick: None) -> None:
    explore(2000)


def test_lease_tag_is_gone_after_a_command(quick: None) -> None:
    machine = Registry()
    machine.start()
    machine.run(False, False, "enforce", None, "one", None)
    assert LEASE_TAG not in connect().get_registered_model(machine.name).tags
