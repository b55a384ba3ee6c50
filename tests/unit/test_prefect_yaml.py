from __future__ import annotations

import importlib
import inspect
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from schemas.config.run import RunConfig
from tasks.registry.lineage import settings_sha256

ROOT = Path(__file__).parents[2]
PROJECT = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = PROJECT["deployments"]


def by_name(deployment: dict[str, Any]) -> str:
    return str(deployment["name"])


def test_retrains_are_scheduled_and_the_rest_is_started_by_hand() -> None:
    schedules = {by_name(deployment): deployment["schedules"] for deployment in DEPLOYMENTS}
    assert schedules == {
        "train-sft": [],
        "retrain-weekly": [{"cron": "0 3 * * 1", "timezone": "Etc/UTC", "active": True}],
        "retrain-on-data": [{"interval": 900, "timezone": "Etc/UTC", "active": True}],
        "check-data": [],
        "promote-model": [],
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=by_name)
def test_parameters_are_those_of_the_flow(deployment: dict[str, Any]) -> None:
    path, _, name = deployment["entrypoint"].partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    flow = getattr(module, name)
    parameters = flow.validate_parameters(deployment["parameters"])
    assert set(parameters) == set(inspect.signature(flow.fn).parameters)
    schema = flow.parameters.model_dump_for_openapi()
    assert set(schema["properties"]) == set(parameters), "each is a field of the form"


def test_retrains_of_one_name_share_their_settings() -> None:
    shaped = {
        settings_sha256(RunConfig.model_validate(deployment["parameters"]["config"]))
        for deployment in DEPLOYMENTS
        if "config" in deployment["parameters"]
    }
    assert len(shaped) == 1, "a retrain would call the other's settings a reason to train"


def test_event_of_new_data_starts_a_retrain() -> None:
    from prefect.events import DeploymentEventTrigger

    deployment = next(found for found in DEPLOYMENTS if found["name"] == "retrain-on-data")
    trigger = DeploymentEventTrigger.model_validate(deployment["triggers"][0])
    assert trigger.expect == {"sft-flow.data.arrived"}
    name = deployment["parameters"]["config"]["registry"]["name"]
    match = trigger.model_dump(mode="json")["match"]
    assert match == {"prefect.resource.id": f"sft-flow.model.{name}"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=by_name)
def test_one_run_at_a_time_in_the_local_pool(deployment: dict[str, Any]) -> None:
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert deployment["work_pool"]["name"] == "sft-local"


def test_schedule_is_monday_at_three() -> None:
    from cronsim import CronSim

    schedule = DEPLOYMENTS[1]["schedules"][0]
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(schedule["timezone"]))
    run = next(CronSim(schedule["cron"], start))
    assert (run.isoweekday(), run.hour, run.minute) == (1, 3, 0)
