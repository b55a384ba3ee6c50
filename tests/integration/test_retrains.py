"""Retrains under one name: the champion is a side of the comparison, and modes do what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

import flows.train_sft as flow_module
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.errors import ChampionChanged
from schemas.records.decision import Decision
from schemas.records.references import PromotionReference, ReportReference
from schemas.records.stages import Stage
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.engine.run_bar import BARS
from tasks.promote_model import promote_model
from tasks.registry.store import alias_holder, connect
from tests.integration.conftest import ToyRun

pytestmark = pytest.mark.integration

NAME = "toy-retrains"


def retrain(
    toy_run: ToyRun, *, name: str = NAME, max_steps: int = 30, mode: str = "enforce"
) -> tuple[RunConfig, ReportReference]:
    """Run the toy flow under a name of this file: more steps make a better model, up to 30."""
    settings = toy_run.config.model_dump(mode="json")
    settings["registry"]["name"] = name
    settings["training"]["max_steps"] = max_steps
    settings["gates"]["mode"] = mode
    config = RunConfig.model_validate(settings)
    return config, train_sft(config)


def read_report(reference: ReportReference) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(locate(reference, "report.json").read_text("utf-8"))
    return document


def holders() -> dict[str, int | None]:
    client = connect()
    return {alias: alias_holder(client, NAME, alias) for alias in ("champion", "previous")}


def test_retrains_are_compared_with_the_champion(toy_run: ToyRun) -> None:
    first, promoted = retrain(toy_run, max_steps=16)
    assert promoted.decision is Decision.PROMOTE
    assert set(read_report(promoted)["metrics"]) == {"base", "challenger"}
    champion = holders()["champion"]

    _, refused = retrain(toy_run, max_steps=8)
    report = read_report(refused)
    assert refused.decision is Decision.REFUSE
    assert set(report["metrics"]) == {"base", "champion", "challenger"}
    verdicts = {gate["id"]: gate["verdict"] for gate in report["gates"]}
    assert verdicts["loss_below_base"] == "passed"
    assert verdicts["loss_below_champion"] == "failed"
    assert holders() == {"champion": champion, "previous": None}
    assert alias_holder(connect(), NAME, "challenger") == report["registry"]["version"]
    page = locate(refused, "report.html").read_text(encoding="utf-8")
    for words in (">champion</th>", "loss_below_champion", "Slices", "Where the base was better"):
        assert words in page

    _, better = retrain(toy_run)
    report = read_report(better)
    assert better.decision is Decision.PROMOTE, report["reason"]
    assert holders() == {"champion": report["registry"]["version"], "previous": champion}

    # The same again: its opponent is `previous`, as it was, so nothing is judged anew.
    retrain(toy_run)
    entries = read_entries(last_flow_run_id() or "")
    assert [(entry.stage, entry.event) for entry in entries] == [
        (stage.value, "HIT") for stage in Stage
    ]
    # The former winner again: it meets the new champion and loses, although it was promoted once.
    train_sft(first)
    assert holders()["champion"] == report["registry"]["version"]


def test_dry_run_judges_and_registers_but_moves_nothing(toy_run: ToyRun) -> None:
    name = "toy-dry"
    _, reference = retrain(toy_run, name=name, mode="dry_run")
    report = read_report(reference)
    assert (report["mode"], report["decision"]) == ("dry_run", "promote")
    assert report["reason"].startswith("dry run, would promote")
    assert not report["registry"]["is_promoted"]
    assert alias_holder(connect(), name, "champion") is None
    assert alias_holder(connect(), name, "challenger") == 1


def test_without_gates_nothing_is_registered(toy_run: ToyRun) -> None:
    name = "toy-off"
    _, reference = retrain(toy_run, name=name, mode="off")
    report = read_report(reference)
    assert reference.decision is Decision.SKIPPED
    assert report["registry"]["version"] is None
    assert report["gates"] == []
    assert "not evaluated" in locate(reference, "report.html").read_text(encoding="utf-8")
    assert list(connect().search_model_versions(f"name = '{name}'")) == []


def test_run_that_was_overtaken_decides_again(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "toy-overtaken"
    retrain(toy_run, name=name, max_steps=8, mode="dry_run")  # version 1, without an alias
    attempts: list[int | None] = []

    def overtaken_once(*arguments: Any, **named: Any) -> PromotionReference:
        attempts.append(arguments[1].report.champion_version)
        if len(attempts) == 1:  # another promotion comes between decision and promotion
            connect().set_registered_model_alias(name, "champion", "1")
        return promote_model(*arguments, **named)

    monkeypatch.setattr(flow_module, "promote_model", overtaken_once)
    _, reference = retrain(toy_run, name=name)
    assert attempts == [None, 1]
    report = read_report(reference)
    assert report["registry"]["compared_with_version"] == 1
    assert report["registry"]["version"] == 2, "the second decision stands on the same version"
    assert alias_holder(connect(), name, "champion") == 2
    assert alias_holder(connect(), name, "previous") == 1


def test_run_gives_up_when_the_champion_changes_every_time(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always_overtaken(*_: Any, **__: Any) -> PromotionReference:
        raise ChampionChanged("another promotion came first")

    monkeypatch.setattr(flow_module, "promote_model", always_overtaken)
    with pytest.raises(ChampionChanged):
        retrain(toy_run)
    assert BARS == {}
