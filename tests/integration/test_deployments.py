"""`prefect deploy --all` as it stands, against a real server."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.documentation import blocks, documented
from tests.support.prefect_server import ROOT, Server, running_server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("deploy")) as found:
        found.prefect("work-pool", "create", "--type", "process", "sft-local")
        found.prefect("deploy", "--all")
        yield found


def test_deploy_all_makes_every_deployment(server: Server) -> None:
    deployments = {found["name"]: found for found in server.ask("/deployments/filter", {})}
    assert set(deployments) == {
        "train-sft",
        "retrain-weekly",
        "retrain-on-data",
        "check-data",
        "promote-model",
    }
    schedule = deployments["retrain-weekly"]["schedules"][0]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 3 * * 1", True)
    assert deployments["retrain-on-data"]["schedules"][0]["schedule"]["interval"] == 900
    for found in deployments.values():
        assert found["pull_steps"] == [
            {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
        ]
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert found["global_concurrency_limit"]["limit"] == 1
        assert set(found["parameters"]) == set(found["parameter_openapi_schema"]["properties"])


def test_deploying_again_makes_no_twins(server: Server) -> None:
    server.prefect("deploy", "--all")
    assert len(server.ask("/deployments/filter", {})) == 5
    (automation,) = server.ask("/automations/filter", {})
    assert automation["name"] == "retrain-on-data"
    assert automation["trigger"]["expect"] == ["sft-flow.data.arrived"]


def test_kubernetes_pool_takes_its_job_template(server: Server) -> None:
    template = ROOT / "deploy" / "kubernetes" / "base-job-template.json"
    options = ("--type", "kubernetes", "--overwrite", "--base-job-template", str(template))
    server.prefect("work-pool", "create", *options, "sft-kubernetes")
    (pool,) = server.ask("/work_pools/filter", {"work_pools": {"type": {"any_": ["kubernetes"]}}})
    assert pool["base_job_template"] == json.loads(template.read_text(encoding="utf-8"))


def test_deployments_of_the_tutorial_are_made_in_an_empty_folder(
    server: Server, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    commands = "".join(blocks(page, "sh")).splitlines()
    folder = tmp_path / "a folder {é}"
    folder.mkdir()
    (folder / "faq-en.csv").write_text("q,a\n" + "How wide is it?,It is wide enough.\n" * 9)
    (init,) = documented("docs/tutorial.md", "init")
    server.python(
        "-c", "from flows.cli.main import main; main()", *shlex.split(init)[1:], folder=folder
    )
    server.python("-m", "prefect", "deploy", "--all", folder=folder)
    names = {"deployments": {"name": {"like_": "building-faq-"}}}
    found = {one["name"]: one for one in server.ask("/deployments/filter", names)}
    assert set(found) == {"building-faq-train", "building-faq-weekly"}
    written = yaml.safe_load((folder / "sft-flow.yaml").read_text(encoding="utf-8"))
    for deployment in found.values():
        assert deployment["parameters"] == {"config": written, "refresh": []}
        assert deployment["pull_steps"] == [
            {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
        ]
    (run_it,) = [line for line in commands if line.startswith("prefect deployment run")]
    server.prefect(*shlex.split(run_it, comments=True)[1:])
    weekly = found["building-faq-weekly"]["id"]
    run = {"deployments": {"id": {"any_": [weekly]}}, "sort": "START_TIME_ASC"}
    states = {found["state_name"] for found in server.ask("/flow_runs/filter", run)}
    assert states == {"Scheduled"}
    (folder / "sft-flow.yaml").write_text("training: {max_step: 1}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="max_steps"):
        server.python("-m", "prefect", "deploy", "--all", folder=folder)
