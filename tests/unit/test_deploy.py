"""The files below deploy/: what can be known of them without Docker, a cluster or a network."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.resources import files
from typing import Any

import pytest
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

from flows.doctor._servers import POOL
from tests.support.deployment import (
    COMPOSE,
    DEPLOY,
    MANIFESTS,
    POD,
    TEMPLATE,
    TEMPLATE_PATH,
    values_of,
)
from tests.support.documentation import ROOT

DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHON = PROJECT["requires-python"].split(",")[0].removeprefix(">=")
IMAGE = f"sft-flow:{PROJECT['version']}"
HOME = re.findall(r"SFT_HOME=(\S+)", DOCKERFILE)[0]


def pinned(package: str) -> str:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.findall(rf"^{package}==(.+)$", constraints, re.MULTILINE)[0]


def test_compose_file_follows_the_specification() -> None:
    arguments = ["--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = CliRunner().invoke(check_jsonschema, arguments)
    assert done.exit_code == 0, done.output


def test_compose_services_name_what_is_there() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        volumes = {mount.partition(":")[0] for mount in service.get("volumes", [])}
        assert volumes <= set(COMPOSE["volumes"])
        assert set(values_of(service.get("configs", []), "source")) <= set(COMPOSE["configs"])
    addresses = re.findall(r"(?:@|//)([a-z0-9]+):\d+", json.dumps(services))
    assert set(addresses) <= set(services)
    build = services["prefect"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_compose_opens_ports_on_the_loopback_only() -> None:
    ports = [port for found in values_of(COMPOSE, "ports") for port in found]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_mlflow_options_exist() -> None:
    from mlflow.cli import server

    known = {name for option in server.params for name in option.opts}
    given = {word.partition("=")[0] for word in COMPOSE["services"]["mlflow"]["command"][2:]}
    assert given <= known


def test_image_holds_what_the_deployments_need() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert {"flows", "schemas", "tasks", "prefect.yaml", "pyproject.toml"} <= copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert {source, source.split("/", maxsplit=1)[0]} & allowed, source


def test_image_installs_extras_that_exist() -> None:
    (extras,) = re.findall(r"-e '\.\[(.+)\]'", DOCKERFILE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_images_are_of_the_tested_versions() -> None:
    images = set(values_of([COMPOSE["services"], list(MANIFESTS.values())], "image"))
    assert images == {
        IMAGE,
        "postgres:15",
        "chrislusf/seaweedfs:4.13",
        f"prefecthq/prefect:{pinned('prefect')}-python{PYTHON}-kubernetes",
    }
    assert TEMPLATE["variables"]["properties"]["image"]["default"] == IMAGE
    assert DOCKERFILE.splitlines()[3].startswith(f"FROM python:{PYTHON}-slim")


def test_pool_is_the_one_of_the_deployments() -> None:
    commands = [*values_of(COMPOSE, "command"), *values_of(list(MANIFESTS.values()), "command")]
    commands += values_of(list(MANIFESTS.values()), "args")
    texts = [" ".join(command) for command in commands]
    assert sum(POOL in text.split() for text in texts) == 4


def test_work_directory_is_a_volume_that_the_user_may_write() -> None:
    (uid,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"useradd --uid {uid}" in DOCKERFILE
    assert f"install -d -o sft -g sft {HOME}" in DOCKERFILE
    assert COMPOSE["services"]["worker"]["volumes"] == [f"sft-home:{HOME}"]
    assert POD["containers"][0]["volumeMounts"] == [{"name": "work", "mountPath": HOME}]
    assert {str(number) for number in POD["securityContext"].values()} == {uid}
    claim = TEMPLATE["variables"]["properties"]["work_volume_claim"]["default"]
    assert f"PersistentVolumeClaim {claim}" in MANIFESTS


def test_manifests_name_what_is_there() -> None:
    documents = [*MANIFESTS.values(), POD]
    for kind, key in (("ConfigMap", "configMapRef"), ("Role", "roleRef")):
        assert {f"{kind} {found['name']}" for found in values_of(documents, key)} <= set(MANIFESTS)
    for account in values_of(list(MANIFESTS.values()), "serviceAccountName"):
        assert f"ServiceAccount {account}" in MANIFESTS
    worker = MANIFESTS["Deployment sft-flow-worker"]["spec"]
    assert worker["selector"]["matchLabels"] == worker["template"]["metadata"]["labels"]
    job = MANIFESTS["Job sft-flow-deploy"]
    assert TEMPLATE_PATH.relative_to(ROOT).as_posix() in json.dumps(job)


@pytest.fixture
def own_template() -> dict[str, Any]:
    """The template of Prefect's Kubernetes worker, as Prefect's server ships it."""
    views = files("prefect.server.api.collections_data") / "views/aggregate-worker-metadata.json"
    workers = json.loads(views.read_text(encoding="utf-8"))
    template: dict[str, Any] = workers["prefect-kubernetes"]["kubernetes"]
    return dict(template["default_base_job_configuration"])


def test_job_template_fills_what_the_kubernetes_worker_knows(own_template: dict[str, Any]) -> None:
    variables = set(TEMPLATE["variables"]["properties"])
    placeholders = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert placeholders == variables
    own_variables = set(own_template["variables"]["properties"])
    assert variables - own_variables == {"gpu_limit", "work_volume_claim"}
    assert set(TEMPLATE["job_configuration"]) <= set(own_template["job_configuration"])
    own_pod = own_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    for name, value in own_pod["containers"][0].items():
        if name != "resources":
            assert POD["containers"][0][name] == value
