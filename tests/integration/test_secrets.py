"""No password, signature or token appears in anything that a run writes, or in a list of processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import yaml

from flows._private_parameters import hides_secrets
from flows.services.local import ServiceOptions, _start_mlflow, stop_service
from flows.services.state import ServiceName
from schemas.config.run import RunConfig
from schemas.errors import RegistryError, RegistryForbidden, ServiceUnreachable, SftFlowError
from tasks.registry.ping import ANY_REQUEST
from tasks.registry.store import connect, store_errors
from tasks.registry.versions import RegisteredModel, fetch_registered
from tests.integration.conftest import N_ROWS, toy_config
from tests.support.http_faults import Answer, Rule, refusing_server
from tests.support.mlflow_server import running_mlflow
from tests.support.processes import clean_environment
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration

CANARY = "canary7hunter2"
SIGNATURE = "canary7signature"
PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "canary7aws/key+value",
    "AWS_SESSION_TOKEN": "canary7session==",
    "FTP_PROXY": f"http://ada:{CANARY}@proxy:3128",
    "GITHUB_TOKEN": "canary7github",
    "HF_TOKEN": "hf_canary7hub",
    "MLFLOW_REGISTRY_PASSWORD": "canary7registry",
    "OPENAI_API_KEY": "sk-canary7openai",
    "SFT_WEBHOOK_SECRET": "canary7webhook",
}
"""Variables that a run inherits, or uses."""
RUN_SECONDS = 1200


@dataclass
class Leaks:
    """What a command wrote, and where."""

    folder: Path
    code: int
    output: str
    commands: set[str]
    """Command lines of the command and of every process that it started, as anyone may list them."""

    def found(self) -> dict[str, str]:
        """Search everything for the canaries; give file or stream and the text around."""
        texts = {"terminal": self.output.encode(), "processes": "\n".join(self.commands).encode()}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name != "secret.yaml":
                texts[str(path.relative_to(self.folder))] = path.read_bytes()
        return {
            name: repr(text[max(0, place - 150) : place + 60])
            for name, text in texts.items()
            if (place := text.find(b"canary7")) >= 0
        }


def run_command(folder: Path, settings: dict[str, Any], *arguments: str, **extra: str) -> Leaks:
    """Run `sft-flow` in a process, with homes of its own in the folder."""
    (folder / "secret.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    environment = clean_environment() | {
        "SFT_HOME": str(folder / "home"),
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
    }
    with (folder / "terminal.txt").open("wb") as terminal:
        running = psutil.Popen(
            [sys.executable, "-c", "from flows.cli.main import main; main()", *arguments],
            cwd=folder,
            env=environment | PLANTED | extra,
            stdout=terminal,
            stderr=subprocess.STDOUT,
        )
        commands = watch_commands(running)
    output = (folder / "terminal.txt").read_text(encoding="utf-8")
    return Leaks(folder, running.returncode, output, commands)


def watch_commands(running: psutil.Popen) -> set[str]:
    """Collect the command lines of a process and its children until it ends."""
    commands: set[str] = set()
    ends = time.monotonic() + RUN_SECONDS
    while running.poll() is None:
        assert time.monotonic() < ends, "the command does not end"
        with contextlib.suppress(psutil.Error):
            family = [running, *running.children(recursive=True)]
            commands |= {" ".join(one.cmdline()) for one in family}
        time.sleep(0.2)
    return commands


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Make a toy model, and the text of its rows."""
    folder = tmp_path_factory.mktemp("toy-secrets")
    data = write_jsonl(folder / "rows.jsonl", toy_rows(N_ROWS))
    return make_toy_model(folder / "model"), data.read_text(encoding="utf-8")


def settings_for(model: Path, host: str) -> dict[str, Any]:
    """Give settings whose data are behind a password and a signature."""
    address = f"http://ada:{CANARY}@{host}/rows.jsonl?X-Amz-Signature={SIGNATURE}"
    settings = toy_config(model, Path("rows.jsonl")).model_dump(mode="json", exclude_unset=True)
    settings["data"]["source"]["source"] = address
    return settings


@pytest.fixture(scope="module")
def complete(
    toy: tuple[Path, str], empty_mlflow_db: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Leaks]:
    """Run the whole flow: rows and MLflow are behind passwords."""
    model, rows = toy
    folder = tmp_path_factory.mktemp("complete")
    (folder / "mlflow.db").write_bytes(empty_mlflow_db.read_bytes())
    store = f"sqlite:///{folder}/mlflow.db"
    with (
        running_mlflow(folder, store, str(folder / "artifacts"), {}) as server,
        refusing_server(lambda *_: None, server) as mlflow,
        refusing_server(lambda *_: (200, rows)) as data,
    ):
        yield run_command(
            folder,
            settings_for(model, data),
            *("--debug", "run", "--plain", "-c", "secret.yaml"),
            MLFLOW_TRACKING_URI=f"http://ada:{CANARY}@{mlflow}",
        )


@pytest.mark.slow
def test_complete_run_writes_no_secret(complete: Leaks) -> None:
    assert complete.code in (0, 1), complete.output[-3000:]
    assert "Decision:" in complete.output
    assert complete.found() == {}


@pytest.mark.slow
def test_what_was_searched_has_prefects_and_mlflows_records(complete: Leaks) -> None:
    """Otherwise the search proves nothing."""
    names = {path.name for path in complete.folder.rglob("*") if path.is_file()}
    assert {"report.json", "config.yaml", "model.safetensors", "mlflow.db"} <= names
    prefect = [
        path.read_bytes() for path in (complete.folder / "home" / "prefect").glob("prefect.db*")
    ]
    assert any(b"rows.jsonl" in text and b"check_registry" in text for text in prefect)


def test_failed_run_writes_no_secret(toy: tuple[Path, str], tmp_path: Path) -> None:
    def refuse(_method: str, path: str) -> Answer:
        return (403, f"no access to {path} for {CANARY}" if "?" not in path else "no access")

    with refusing_server(refuse) as data:
        failed = run_command(
            tmp_path,
            settings_for(toy[0], data),
            *("--debug", "run", "--plain", "-c", "secret.yaml"),
        )
    assert failed.code == 2, failed.output[-3000:]
    assert "does not let this address be read" in failed.output
    assert "Traceback" in failed.output
    assert "ClientResponseError" in failed.output
    servers = [command for command in failed.commands if "prefect server start" in command]
    assert servers
    assert all("--host 127.0.0.1" in command for command in servers)
    assert failed.found() == {}


def but_healthy(answer: Answer) -> Rule:
    """Answer all requests alike, but for the one that looks whether a server is there."""
    return lambda _, path: (200, "OK") if path.startswith(ANY_REQUEST) else answer


@pytest.mark.parametrize(
    ("answer", "kind", "exit_code"),
    [
        ((0, ""), ServiceUnreachable, 3),
        ((500, "broken"), ServiceUnreachable, 3),
        ((401, "You are not authenticated."), RegistryForbidden, 2),
        ((403, "Permission denied"), RegistryForbidden, 2),
        ((403, '{"error_code": "PERMISSION_DENIED", "message": "no"}'), RegistryForbidden, 2),
        ((403, '{"message": "Forbidden"}'), RegistryForbidden, 2),
        ((407, "Proxy"), RegistryForbidden, 2),
        ((503, "denied for now"), ServiceUnreachable, 3),
        ((503, '{"message": "Access denied for now"}'), ServiceUnreachable, 3),
        ((429, '{"message": "slow down"}'), ServiceUnreachable, 3),
        ((400, "bad"), RegistryError, 2),
        ((405, '{"message": "Method not allowed"}'), RegistryError, 2),
        ((413, "<html>Request Entity Too Large</html>"), RegistryError, 2),
        ((404, "<html>Not Found</html>"), RegistryError, 2),
        ((404, '{"detail": "Not Found"}'), RegistryError, 2),
        ((200, "<html>Welcome</html>"), RegistryError, 2),
    ],
)
def test_errors_of_mlflow_are_clean_and_of_the_right_kind(
    answer: Answer,
    kind: type[SftFlowError],
    exit_code: int,
    work_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with refusing_server(but_healthy(answer)) as host:
        for name in ("USERNAME", "PASSWORD"):
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:{CANARY}@{host}")
        with pytest.raises(SftFlowError) as caught, store_errors():
            connect().get_experiment_by_name("sft-flow")
    assert type(caught.value) is kind, str(caught.value)
    assert (caught.value.exit_code, caught.value.is_retryable) == (exit_code, exit_code == 3)
    assert caught.value.where == f"http://{host}"
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert "MlflowException" in shown or "RestException" in shown


@pytest.mark.parametrize(
    ("answer", "kind"), [((0, ""), ServiceUnreachable), ((403, "no"), RegistryForbidden)]
)
def test_files_of_a_version_that_cannot_be_fetched_are_not_called_incomplete(
    answer: Answer,
    kind: type[SftFlowError],
    work_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with refusing_server(but_healthy(answer)) as host:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{host}")
        connect()
        with pytest.raises(kind):
            fetch_registered(RegisteredModel("toy", 1, "r", "mlflow-artifacts:/1/m"), tmp_path)


def test_parameters_of_a_flow_run_are_public_and_its_own_are_not(prefect_server: None) -> None:
    from prefect import flow, runtime

    address = f"https://ada:{CANARY}@host/rows.jsonl?sig={SIGNATURE}"

    @hides_secrets
    @flow(name="parameters")
    def show(config: RunConfig) -> tuple[str, str]:
        return config.data.source.source, str(runtime.flow_run.id)  # type: ignore[union-attr]

    config = RunConfig.model_validate({"data": {"source": {"source": address}}})
    seen, run_id = show(config)
    assert seen == address
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        stored = client.read_flow_run(UUID(run_id)).parameters
    assert stored["config"]["data"]["source"]["source"] == "https://host/rows.jsonl"
    assert "canary7" not in str(stored)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_password_of_the_store_is_on_no_command_line(
    work_folder: Path, tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.engine.local_server import free_port

    store = tmp_path / f"{CANARY}.db"  # a SQLite store has no password: its name stands for it
    store.write_bytes(empty_mlflow_db.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    running: dict[ServiceName, Any] = {}
    options = ServiceOptions(prefect_port=0, mlflow_port=free_port(), pool="none")
    _start_mlflow(options, running)
    service = running[ServiceName.MLFLOW]
    try:
        process = psutil.Process(service.pid)
        family = [process, *process.children(recursive=True)]
        lines = [" ".join(one.cmdline()) for one in family]
        assert any("mlflow server" in line for line in lines)
        assert CANARY not in "\n".join(lines)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", options.mlflow)
        assert [one.name for one in connect().search_experiments()] == ["Default"]
        opened = {Path(file.path) for one in family for file in one.open_files()}
        assert store in opened
        listening = {
            connection.laddr.ip
            for one in family
            for connection in one.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
    finally:
        stop_service(service)
