"""The servers of deploy/compose.yaml let no one in without a login, and its clients have one."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.services.prefect_api import check_api
from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryForbidden
from tasks.registry.ping import ANY_REQUEST
from tasks.registry.store import connect
from tasks.registry.write_check import check_writes
from tests.services.postgresql import find_postgresql, running_postgresql
from tests.support.compose import Team, on_this_machine
from tests.support.deployment import TEXT, VARIABLE
from tests.support.parts import Part
from tests.support.processes import clean_environment

pytestmark = pytest.mark.integration

LOGINS = ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
REGISTRY = RegistryConfig(name="toy")
WITH_POSTGRESQL = (
    pytest.mark.services,
    Part("PostgreSQL", "apt-get install postgresql", find_postgresql() is not None).mark,
)


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """The content of deploy/.env."""
    return {name: secrets.token_hex(16) for name in VARIABLE.findall(TEXT)}


@pytest.fixture(
    scope="module", params=["SQLite", pytest.param("PostgreSQL", marks=WITH_POSTGRESQL)]
)
def team(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    values: dict[str, str],
) -> Iterator[Team]:
    """Prefect's and MLflow's server, started as the Compose file does."""
    folder, place = tmp_path_factory.mktemp("team"), ""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        programs = find_postgresql()
        if request.param == "PostgreSQL" and programs:
            login = stack.enter_context(running_postgresql(programs, folder))
            values["DATABASE_PASSWORD"], _, place = login.partition(":")[2].partition("@")
        found = on_this_machine(folder, values, place)
        services = ("prefect", "mlflow")
        list(pool.map(lambda name: stack.enter_context(found.running(name)), services))
        yield found


@pytest.fixture
def worker(
    team: Team, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The environment of the worker, which this process has too."""
    found = team.environment("worker")
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    own = {
        PREFECT_API_URL: found["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: found["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(own):
        yield found


def ask(address: str, login: str = "", question: dict[str, Any] | None = None) -> int:
    """Put one question to a server, and return the status of its answer."""
    headers = {"Content-Type": "application/json"}
    if login:
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    data = None if question is None else json.dumps(question).encode()
    try:
        request = urllib.request.Request(address, data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def run(team: Team, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours, or of Prefect, as a container of the Compose file does."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=team.folder,
        env=clean_environment() | {"PREFECT_HOME": str(team.folder / "client")} | environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("login", ["", "sft:another-secret"], ids=["no login", "wrong login"])
def test_request_without_the_login_is_refused(team: Team, login: str) -> None:
    client = team.environment("worker")
    prefect, mlflow = client["PREFECT_API_URL"], client["MLFLOW_TRACKING_URI"]
    own = f"{client['MLFLOW_TRACKING_USERNAME']}:{client['MLFLOW_TRACKING_PASSWORD']}"
    assert ask(f"{prefect}/work_pools/filter", login, {}) == 401
    assert ask(f"{prefect}/work_pools/filter", client["PREFECT_API_AUTH_STRING"], {}) == 200
    for path in (f"{ANY_REQUEST}?max_results=1", "/"):
        assert ask(mlflow + path, login) == 401
        assert ask(mlflow + path, own) == 200
    assert ask(f"{mlflow}/api/2.0/mlflow-artifacts/artifacts/x", login) == 401


def test_clients_of_the_product_are_let_in(worker: dict[str, str]) -> None:
    check_api(worker["PREFECT_API_URL"])
    assert check_writes(REGISTRY, is_training=True).startswith("mlflow-artifacts:")
    assert connect().get_registered_model("toy").name == "toy"


def test_account_of_another_person_reads_and_does_not_write(
    worker: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writes(REGISTRY, is_training=True)
    account = {"username": "ada", "password": secrets.token_hex(16)}
    login = f"{worker['MLFLOW_TRACKING_USERNAME']}:{worker['MLFLOW_TRACKING_PASSWORD']}"
    users = f"{worker['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users/create"
    assert ask(users, login, account) == 200
    for name, value in account.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name.upper()}", value)
    assert connect().get_experiment_by_name(REGISTRY.experiment).name == REGISTRY.experiment
    with pytest.raises(RegistryForbidden) as caught:
        check_writes(REGISTRY, is_training=True)
    assert "ask the owner of the server for permission" in caught.value.fix


def test_advice_of_doctor_is_enough(team: Team, values: dict[str, str]) -> None:
    """Without logins it names the variables; with their values it finds nothing more to do."""

    def examine(environment: dict[str, str]) -> dict[str, dict[str, str]]:
        own = environment | {"SFT_HOME": str(team.folder / "home")}
        done = run(team, "sft-flow", "doctor", "--json", **own)
        assert not any(value in done.stdout + done.stderr for value in values.values())
        return {found["topic"]: found for found in json.loads(done.stdout)}

    client = team.environment("worker")
    topics = ("prefect", "mlflow", "artefact store")
    found = examine({name: value for name, value in client.items() if name not in LOGINS})
    assert {found[topic]["health"] for topic in topics} == {"problem"}, found
    fixes = " ".join(found[topic]["fix"] for topic in topics)
    assert set(LOGINS) <= set(re.findall(r"\w+", fixes))
    server = "PREFECT_SERVER_API_AUTH_STRING"
    assert f"set PREFECT_API_AUTH_STRING to the {server} of the server" in fixes
    assert client["PREFECT_API_AUTH_STRING"] == team.environment("prefect")[server]
    found = examine(client)
    assert {found[topic]["health"] for topic in topics} == {"ok"}, found


def test_deployments_get_their_pool(team: Team) -> None:
    service = team.document["services"]["deploy"]
    program, flag, script = service["command"]
    assert (program, flag) == ("sh", "-c")
    command = shlex.split(script.partition("&&")[0])
    done = run(team, *command, **team.environment("deploy"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_password_is_in_a_command_line_or_a_log(team: Team, values: dict[str, str]) -> None:
    processes = psutil.Process(os.getpid()).children(recursive=True)
    commands = [" ".join(process.cmdline()) for process in processes if process.is_running()]
    for words in ("prefect server start", "mlflow server"):
        assert any(words in command for command in commands), commands
    logs = [path.read_text(encoding="utf-8") for path in team.folder.glob("*.log")]
    assert len(logs) >= 2
    for name, value in values.items():
        assert not any(value in text for text in (*commands, *logs)), name
