from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from flows.cli.project_files import (
    CONFIGURATION,
    FILES,
    IGNORED,
    PROJECT,
    Project,
    describe_mapping,
    describe_sample,
    project_files,
)
from schemas.config.file import load_config
from schemas.config.run import ModelConfig, RunConfig
from schemas.rule_ids import RowRule
from tasks.dataset.column_mapping import Columns, Proposal
from tasks.rows.check import BlockOutcome

ODD = "a: b, {c} [d] #e 'f' \"g\" %h \u00e9\u4e2d\u2028\ni"


def made(
    columns: Columns, *, source: str = "faq.csv", name: str = "faq", seen: tuple[str, ...] = ()
) -> Project:
    outcome = BlockOutcome(n_rows=9, n_kept_rows=9)
    return Project(source, ModelConfig().source, name, Proposal(columns, "by name", seen, outcome))


@pytest.mark.parametrize("text", ["faq.csv", ODD, "yes", "5e-4", "1.5", " ", "-", "$x ${y}"])
def test_configuration_is_read_back_by_the_products_loader(tmp_path: Path, text: str) -> None:
    project = made({"prompt": text, "completion": f"{text}2"}, source=text, seen=(text, "id"))
    (tmp_path / CONFIGURATION).write_text(project_files(project)[CONFIGURATION], encoding="utf-8")
    config = load_config(tmp_path / CONFIGURATION)
    assert config == RunConfig.model_validate(
        {
            "data": {"source": {"source": text, "columns": dict(project.proposal.columns)}},
            "registry": {"name": "faq"},
            "retrain": {"min_new_rows": 5, "max_age_days": 30},
        }
    ), "everything else keeps its default"


def test_known_format_has_no_columns() -> None:
    text = project_files(made({}))[CONFIGURATION]
    assert "columns" not in yaml.safe_load(text)["data"]["source"]
    assert "# Mapping: none is needed (by name)" in text


@pytest.mark.parametrize("name", ["faq", "true", "5e-4", "my faq-1.0"])
def test_deployments_are_of_the_installed_package(name: str) -> None:
    project = yaml.safe_load(project_files(made({}, name=name))[PROJECT])
    assert [found["name"] for found in project["deployments"]] == [
        f"{name}-train",
        f"{name}-weekly",
    ]
    schedules = [found["schedules"] for found in project["deployments"]]
    assert schedules == [[], [{"cron": "0 3 * * 1", "timezone": "Etc/UTC", "active": True}]]
    for deployment in project["deployments"]:
        module, _, function = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), function)
        assert set(deployment["parameters"]) == set(inspect.signature(flow.fn).parameters)
        assert deployment["concurrency_limit"]["collision_strategy"] == "ENQUEUE"
        assert deployment["work_pool"]["name"] == "sft-local"


def test_step_of_the_deployments_exists_and_reads_the_configuration() -> None:
    ((step,),) = [yaml.safe_load(project_files(made({}))[PROJECT])["build"]]
    ((path, inputs),) = step.items()
    module, _, function = path.rpartition(".")
    read = getattr(importlib.import_module(module), function)
    assert {**inputs, "id": "project"} == {"id": "project", "path": CONFIGURATION}
    assert set(inspect.signature(read).parameters) == {"path"}


def test_files_are_the_three_and_ignore_the_outputs() -> None:
    files = project_files(made({}))
    assert tuple(files) == FILES
    assert ".sft/" in files[IGNORED].splitlines()


def test_mapping_and_sample_are_described_in_one_line_each() -> None:
    outcome = BlockOutcome(n_rows=1000, n_kept_rows=990)
    outcome.n_broken.update({RowRule.PROMPT_EMPTY: 3, RowRule.COMPLETION_EMPTY: 7})
    columns: Columns = {"prompt": "q", "completion": "a\nb"}
    proposal = Proposal(columns, "by name", ("id", "q", "a\nb"), outcome)
    assert describe_mapping(proposal) == (
        "Mapping: prompt is q, completion is a\ufffdb (by name); not trained on: id"
    )
    assert describe_sample(proposal) == (
        "990 of 1,000 rows kept; rules broken: completion_empty 7, prompt_empty 3"
    )
