"""The same model, the same version and the holder of an alias: what repeats a run, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.events import emit_event

import flows.train_sft as flow_module
from flows.retrain_model import retrain_model
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.records.decision import Decision
from schemas.records.references import ReportReference, RetrainDecision, RetrainReason
from schemas.records.stages import Stage
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.registry.aliases import read_holders
from tasks.registry.store import connect
from tasks.registry.tags import ANNOUNCED_TAG, MODEL_TAG
from tasks.release.by_hand import roll_back
from tasks.report import announcements
from tests.integration.conftest import N_ROWS, ToyRun
from tests.support.toy import toy_rows, write_jsonl

pytestmark = pytest.mark.integration

ALIASES = ("champion", "previous", "challenger")


def settings_of(toy_run: ToyRun, name: str, data: Path, **changes: Any) -> RunConfig:
    """Make a short training of a name of this file."""
    settings = toy_run.config.model_dump(mode="json")
    settings["registry"]["name"] = name
    settings["data"]["source"]["source"] = str(data)
    settings["training"]["max_steps"] = changes.pop("max_steps", 8)
    for section, values in changes.items():
        settings[section] |= values
    return RunConfig.model_validate(settings)


def holders(name: str) -> dict[str, int | None]:
    return read_holders(connect(), name, ALIASES)


def registry_of(reference: ReportReference) -> dict[str, Any]:
    report = json.loads(locate(reference, "report.json").read_text(encoding="utf-8"))
    return report["registry"] | {"reason": report["reason"]}  # type: ignore[no-any-return]


def computed() -> set[str]:
    entries = read_entries(last_flow_run_id() or "")
    return {entry.stage for entry in entries if entry.event == "MISS"}


def test_renamed_file_with_a_blank_line_is_the_same_version(
    toy_run: ToyRun, tmp_path: Path
) -> None:
    name = "toy-renamed"
    data = write_jsonl(tmp_path / "faq.jsonl", toy_rows(N_ROWS))
    assert train_sft(settings_of(toy_run, name, data)).decision is Decision.PROMOTE
    renamed = tmp_path / "faq-2026.jsonl"
    renamed.write_text("\n" + data.read_text(encoding="utf-8"), encoding="utf-8")
    again = registry_of(train_sft(settings_of(toy_run, name, renamed)))
    assert (again["version"], again["is_promoted"]) == (1, True)
    assert Stage.TRAIN_MODEL not in computed()
    assert holders(name) == {"champion": 1, "previous": None, "challenger": 1}


def test_same_weights_on_other_held_out_rows_are_no_contest(
    toy_run: ToyRun, tmp_path: Path
) -> None:
    name = "toy-rows"
    data = write_jsonl(tmp_path / "rows.jsonl", toy_rows(N_ROWS))
    first = settings_of(toy_run, name, data, split={"max_eval_rows": 18})
    assert train_sft(first).decision is Decision.PROMOTE
    more = settings_of(toy_run, name, data, split={"max_eval_rows": 500})
    again = registry_of(train_sft(more))
    client = connect()
    shas = [client.get_model_version(name, number).tags[MODEL_TAG] for number in "12"]
    assert shas[0] == shas[1]
    assert (again["version"], again["is_promoted"]) == (2, False)
    assert "version 1, which is champion, is this very model" in again["reason"]
    assert holders(name) == {"champion": 1, "previous": None, "challenger": 2}
    train_sft(more)
    assert computed() == set()


def test_repeated_run_does_not_undo_a_roll_back_and_tells_the_champion_of_now(
    toy_run: ToyRun, tmp_path: Path
) -> None:
    name = "toy-rolled-back"
    data = write_jsonl(tmp_path / "rows.jsonl", toy_rows(N_ROWS))
    first = settings_of(toy_run, name, data, max_steps=8)
    second = settings_of(toy_run, name, data, max_steps=30)
    train_sft(first)
    assert train_sft(second).decision is Decision.PROMOTE
    roll_back(second.registry, "worse in use")
    for config, version in ((second, 2), (first, 1)):  # of both, the decision stays as it was
        assert registry_of(train_sft(config))["version"] == version
        assert computed() == set()
        assert holders(name) == {"champion": 1, "previous": 2, "challenger": version}


def test_scheduled_retrains_that_go_back_to_earlier_rows_come_to_rest(
    toy_run: ToyRun, tmp_path: Path
) -> None:
    name = "toy-back-again"
    data = tmp_path / "rows.jsonl"
    config = settings_of(toy_run, name, data, retrain={"min_new_rows": 1})
    for n_rows in (N_ROWS, N_ROWS + 4, N_ROWS):
        write_jsonl(data, toy_rows(n_rows))
        assert isinstance(retrain_model(config), ReportReference)
    assert holders(name)["challenger"] == 1
    last = retrain_model(config)
    assert isinstance(last, RetrainDecision)
    assert last.reason is RetrainReason.NOTHING
    write_jsonl(data, [*toy_rows(N_ROWS), {"prompt": "Where is it?", "completion": ""}])
    assert isinstance(retrain_model(config), ReportReference)  # a row that is set aside
    write_jsonl(data, toy_rows(N_ROWS))
    assert isinstance(retrain_model(config), ReportReference)
    assert holders(name)["challenger"] == 1
    assert isinstance(retrain_model(config), RetrainDecision)
    connect().delete_registered_model_alias(name, "challenger")
    assert isinstance(retrain_model(config), ReportReference)
    assert isinstance(retrain_model(config), RetrainDecision)


def test_news_of_a_killed_run_is_told_by_the_next_and_once(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "toy-news"
    data = write_jsonl(tmp_path / "rows.jsonl", toy_rows(N_ROWS))
    config = settings_of(toy_run, name, data)
    sent: list[dict[str, Any]] = []

    def note(**event: Any) -> Any:
        sent.append(event)
        return emit_event(**event)

    monkeypatch.setattr(announcements, "emit_event", note)

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flow_module, "publish_report", kill)
        with pytest.raises(KeyboardInterrupt):
            train_sft(config)
    assert holders(name) == {"champion": 1, "previous": None, "challenger": None}
    assert sent == []
    for _ in range(2):
        train_sft(config)
        assert [event["event"] for event in sent] == ["sft-flow.model.promoted"]
    assert sent[0]["payload"]["version"] == 1
    told = connect().get_model_version(name, "1").tags[ANNOUNCED_TAG]
    assert told.startswith("promoted ")
    assert holders(name) == {"champion": 1, "previous": None, "challenger": 1}
