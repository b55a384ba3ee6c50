"""Starting and ending of local services, with other processes as the servers."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.services.local as services
from flows.cli.main import main
from flows.services.state import Service, ServiceName, read_services, write_services
from schemas.errors import ServiceUnreachable
from tasks.engine.processes import identify
from tests.support.http_faults import Answer, refusing_server

pytestmark = pytest.mark.integration

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Integration tests keep a server for the whole session: an `up` that found it would start more.
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def started(name: ServiceName, program: str) -> tuple[subprocess.Popen[bytes], Service]:
    process = subprocess.Popen([sys.executable, "-c", program])
    identity = identify(process.pid)
    service = Service(name=name, pid=process.pid, identity=identity, address="x", log="x.log")
    return process, service


def test_port_of_somebody_else_is_named_with_the_option(taken_port: int) -> None:
    done = CliRunner().invoke(main, ["up", "--prefect-port", str(taken_port)])
    assert done.exit_code == 3
    assert f"127.0.0.1:{taken_port}" in done.stderr
    assert "--prefect-port" in done.stderr


def test_what_was_started_is_stopped_when_the_next_does_not_start(
    taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, service = started(ServiceName.PREFECT, "import time; time.sleep(600)")

    def start(_wanted: services.ServiceOptions, running: dict[ServiceName, Service]) -> str:
        running[service.name] = service
        return "http://127.0.0.1:9/api"

    monkeypatch.setattr(services, "_start_prefect", start)
    with pytest.raises(ServiceUnreachable, match="already in use"):
        services.start_services(services.ServiceOptions(9, taken_port, "pool"))
    assert service.process() is None
    process.wait()
    assert read_services() == {}


def test_configured_server_that_does_not_answer_is_an_error() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ServiceUnreachable, match="Prefect server does not answer"),
    ):
        services.start_services(services.ServiceOptions(4200, 5000, "pool"))


def answer_as_prefect(_method: str, path: str) -> Answer:
    """Answer as a server without pools, which asks for no token."""
    return (404, "") if "csrf-token" in path else (200, "[]")


@pytest.fixture
def port_of_user() -> Iterator[int]:
    """Port of a server that Prefect's settings name, as those of a profile do: no variable is set."""
    with ExitStack() as stack:
        place = stack.enter_context(refusing_server(answer_as_prefect))
        stack.enter_context(temporary_settings({PREFECT_API_URL: f"http://{place}/api/"}))
        yield int(place.rpartition(":")[2])


def test_server_of_the_user_is_used_also_on_the_port_we_would_take(port_of_user: int) -> None:
    running: dict[ServiceName, Service] = {}
    wanted = services.ServiceOptions(port_of_user, 5000, "pool")
    assert services._start_prefect(wanted, running) == f"http://127.0.0.1:{port_of_user}/api"
    assert running == {}


def test_up_says_that_the_configured_mlflow_is_used(
    port_of_user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    done = CliRunner().invoke(main, ["up", "--no-worker"])
    assert done.exit_code == 0, done.output
    assert "using the configured https://mlflow.example.org" in done.stdout
    assert f"export PREFECT_API_URL=http://127.0.0.1:{port_of_user}/api" in done.stdout


def test_service_gets_absolute_addresses_and_imports_nothing_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    probe = "import os, json; print(os.environ['MLFLOW_TRACKING_URI'], json.__file__)"
    (tmp_path / "modules" / "probe_of_services.py").write_text(probe)
    (tmp_path / "json.py").write_text("raise ImportError('of the user, and no json')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    processes = []
    start = subprocess.Popen

    def keep(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        processes.append(start(*arguments, **named))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", keep)
    service = services._launch(ServiceName.WORKER, ("probe_of_services",), "pool", "")
    assert processes[0].wait(60) == 0
    said = Path(service.log).read_text()
    assert said.startswith(f"sqlite:///{tmp_path}/mlflow.db ")
    assert str(tmp_path / "json.py") not in said


def test_service_that_ends_at_once_is_answered_with_its_last_line(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("INFO starting\nError: no such option\n\n")
    process, service = started(ServiceName.MLFLOW, "pass")
    process.wait()
    service = service.model_copy(update={"log": str(log)})
    with pytest.raises(ServiceUnreachable) as caught:
        services._keep(service, {}, lambda: False)
    assert caught.value.got == "it exited: Error: no such option"


def test_stop_ends_a_service_with_its_children_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services, "STOP_SECONDS", 2.0)
    other, _ = started(ServiceName.WORKER, "import time; time.sleep(600)")
    parent = (
        "import subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); print(1, flush=True); "
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    ours = psutil.Process(process.pid)
    (child,) = ours.children()
    service = Service(
        name=ServiceName.PREFECT, pid=ours.pid, identity=identify(ours.pid), address="x", log="x"
    )
    write_services({service.name: service})
    assert services.stop_services() == (service,)
    process.communicate()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert read_services() == {}
    assert other.poll() is None
    other.kill()
    other.wait()


def test_stop_without_services_says_so() -> None:
    done = CliRunner().invoke(main, ["down"])
    assert done.exit_code == 0
    assert "no services of `sft-flow up` are running" in done.stdout
