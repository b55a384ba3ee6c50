from __future__ import annotations

import ast
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from pydantic import TypeAdapter

from schemas.run_config import RunConfig
from schemas.stages import Stage

ROOT = Path(__file__).parents[2]
PROJECT = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = PROJECT["deployments"]


def by_name(deployment: dict[str, Any]) -> str:
    return str(deployment["name"])


def test_there_is_a_manual_and_a_scheduled_deployment() -> None:
    schedules = {by_name(deployment): deployment["schedules"] for deployment in DEPLOYMENTS}
    assert schedules == {
        "train-sft": [],
        "retrain-weekly": [{"cron": "0 3 * * 1", "timezone": "Etc/UTC", "active": True}],
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=by_name)
def test_parameters_are_a_valid_configuration(deployment: dict[str, Any]) -> None:
    parameters = dict(deployment["parameters"])
    RunConfig.model_validate(parameters.pop("config"))
    TypeAdapter(tuple[Stage, ...]).validate_python(parameters.pop("refresh"))
    assert parameters == {}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=by_name)
def test_entrypoint_names_a_function_that_exists(deployment: dict[str, Any]) -> None:
    path, _, name = deployment["entrypoint"].partition(":")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=by_name)
def test_one_run_at_a_time_in_the_local_pool(deployment: dict[str, Any]) -> None:
    assert deployment["concurrency_limit"] == 1
    assert deployment["work_pool"] == {"name": "sft-local"}


def test_schedule_is_monday_at_three() -> None:
    from cronsim import CronSim

    schedule = DEPLOYMENTS[1]["schedules"][0]
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(schedule["timezone"]))
    run = next(CronSim(schedule["cron"], start))
    assert (run.isoweekday(), run.hour, run.minute) == (1, 3, 0)
