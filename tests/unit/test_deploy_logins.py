"""The files below deploy/ start no server without a login, and no client without one."""

from __future__ import annotations

import json
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from tests.services.postgresql import DATABASES
from tests.support.deployment import COMPOSE, DEPLOY, MANIFESTS, POD, TEXT, VARIABLE, values_of
from tests.support.documentation import ROOT

WORKER = (DEPLOY / "kubernetes" / "worker.yaml").read_text(encoding="utf-8")
SECRET_KEYS = set(re.findall(r"^#   (\w+)=\.\.\.$", WORKER, re.MULTILINE))
NEEDS = {
    "postgres:": {"POSTGRES_PASSWORD"},
    "@postgresql:5432/": {"PGPASSWORD"},
    "-s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    "AWS_ENDPOINT_URL_S3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    "prefect server start": {"PREFECT_SERVER_API_AUTH_STRING"},
    "PREFECT_API_URL": {"PREFECT_API_AUTH_STRING"},
    "mlflow server": {
        "--app-name=basic-auth",
        "MLFLOW_AUTH_CONFIG_PATH",
        "MLFLOW_AUTH_ADMIN_USERNAME",
        "MLFLOW_AUTH_ADMIN_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
    },
    "MLFLOW_TRACKING_URI": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
}
"""What starts a server or is one's client, and the variables and options that its login needs."""
CONTAINERS = [one for found in values_of([*MANIFESTS.values(), POD], "containers") for one in found]
IS_SECRET = re.compile(r"(PASSWORD|KEY|AUTH_STRING|TOKEN)$")


def missing_logins(started: list[str], names: set[str]) -> set[str]:
    """Return what a container lacks, given its image, its command and the names of its variables."""
    words = " ".join([*started, *names])
    needed = {need for part, needs in NEEDS.items() if part in words for need in needs}
    return needed - names - set(started)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("prefect server start --host 0.0.0.0", {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"}),
        ("mlflow server --port=5000", NEEDS["mlflow server"] - {"--app-name=basic-auth"}),
        ("mlflow server --app-name=basic-auth", {"MLFLOW_AUTH_CONFIG_PATH"}),
        ("python -c pass", {"PREFECT_API_URL"}),
        ("python -c pass", {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME"}),
    ],
)
def test_login_that_is_missing_is_found(words: str, names: set[str]) -> None:
    assert missing_logins(words.split(), names)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_service_asks_for_a_login_or_has_one(name: str) -> None:
    service = COMPOSE["services"][name]
    environment, command = service.get("environment", {}), service.get("command", [])
    addresses = [*map(str, environment.values()), *command]
    started = [service["image"], *command]
    client = [part for part in ("@postgresql:5432/",) if any(part in one for one in addresses)]
    assert missing_logins([*started, *client], set(environment)) == set()
    for variable, value in environment.items():
        if IS_SECRET.search(variable):
            assert VARIABLE.search(value), variable
    assert "$" not in json.dumps(command)
    assert not re.search(r"//[^/@]*:[^/@]*@", " ".join(addresses))


def test_compose_clients_have_the_login_of_the_server() -> None:
    found = {name: one.get("environment", {}) for name, one in COMPOSE["services"].items()}
    client, mlflow = found["worker"], found["mlflow"]
    server = found["prefect"]["PREFECT_SERVER_API_AUTH_STRING"]
    assert client["PREFECT_API_AUTH_STRING"] == server
    assert client["MLFLOW_TRACKING_USERNAME"] == mlflow["MLFLOW_AUTH_ADMIN_USERNAME"]
    assert client["MLFLOW_TRACKING_PASSWORD"] == mlflow["MLFLOW_AUTH_ADMIN_PASSWORD"]
    assert found["postgresql"]["POSTGRES_PASSWORD"] == mlflow["PGPASSWORD"]
    targets = {one["target"] for one in COMPOSE["services"]["mlflow"]["configs"]}
    assert mlflow["MLFLOW_AUTH_CONFIG_PATH"] in targets
    accounts = ConfigParser()
    accounts.read_string(COMPOSE["configs"]["accounts"]["content"])
    assert accounts["mlflow"]["default_permission"] == "READ"
    assert "admin_password" not in accounts["mlflow"]
    created = re.findall(r"CREATE DATABASE (\w+);", COMPOSE["configs"]["databases"]["content"])
    assert tuple(created) == DATABASES
    assert accounts["mlflow"]["database_uri"].rpartition("/")[2] in created


def test_every_variable_of_the_compose_file_must_be_set() -> None:
    assert set(re.findall(r"\$\{?(\w+)", TEXT)) - {"name"} == set(VARIABLE.findall(TEXT))
    assert TEXT.count("${") == len(VARIABLE.findall(TEXT))


def test_command_for_the_passwords_makes_what_the_compose_file_needs(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (command,) = re.findall(r"^#   (\(umask.+\n#   do .+)$", TEXT, re.MULTILINE)
    subprocess.run(["sh", "-ec", command.replace("#   ", "")], cwd=tmp_path, check=True)
    made = tmp_path / "deploy" / ".env"
    values = dict(line.split("=") for line in made.read_text(encoding="ascii").splitlines())
    assert values.keys() == set(VARIABLE.findall(TEXT))
    assert len(set(values.values())) == len(values)
    assert all(re.fullmatch(r"[0-9a-f]{32}", value) for value in values.values())
    assert made.stat().st_mode & 0o077 == 0


def test_files_with_passwords_are_in_no_commit_package_or_image() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    (excluded,) = re.findall(
        r"^global-exclude (.+)$", (ROOT / "MANIFEST.in").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert ".env" in excluded.split()
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    assert not {"!deploy", "!deploy/kubernetes"} & set(ignored)


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: one["name"])
def test_kubernetes_container_has_the_logins_of_the_secret(container: dict[str, Any]) -> None:
    own = container.get("env", [])
    names = {one["name"] for one in own if isinstance(one, dict)}  # the template has a text
    for source in container["envFrom"]:
        if "configMapRef" in source:
            names |= MANIFESTS[f"ConfigMap {source['configMapRef']['name']}"]["data"].keys()
        if "secretRef" in source:
            names |= SECRET_KEYS
    assert {"PREFECT_API_URL", "MLFLOW_TRACKING_URI"} <= names
    command = [*container.get("command", ()), *container.get("args", ())]
    assert missing_logins(command, names) == set()


def test_kubernetes_secret_is_made_by_hand_and_no_manifest_has_a_password() -> None:
    (made, file) = re.findall(
        r"kubectl create secret generic (\S+) --from-env-file=(\S+)$", WORKER, re.M
    )[0]
    documents = [*MANIFESTS.values(), POD]
    assert {one["name"] for one in values_of(documents, "secretRef")} == {made}
    assert Path(file).name == ".env"
    assert not any(kind.startswith("Secret ") for kind in MANIFESTS)
    settings = MANIFESTS["ConfigMap sft-flow"]["data"]
    assert not any(IS_SECRET.search(name) for name in settings)
    assert not any("@" in value for value in settings.values())
    # The worker writes the login into each job as this reference.
    prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET"
    (given,) = values_of(MANIFESTS["Deployment sft-flow-worker"], "env")
    literal = {one["name"]: one["value"] for one in given if "value" in one}
    assert literal == {f"{prefix}_NAME": made, f"{prefix}_KEY": "PREFECT_API_AUTH_STRING"}
    assert literal[f"{prefix}_KEY"] in SECRET_KEYS
