"""Start and stop Prefect server, MLflow UI and worker for `sft-flow up` and `down`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import psutil

from flows.services.prefect_api import (
    API_VARIABLE,
    LOGIN_VARIABLE,
    api_client,
    check_api,
    configured_api,
    is_up,
    own_login,
)
from flows.services.state import Service, ServiceName, read_services, write_services
from flows.services.stuck_runs import mark_crashed, watch_heartbeats
from flows.services.temporary_server import START_SECONDS, last_line, server_environment, start_lock
from schemas.errors import ServiceUnreachable
from tasks.engine.home import TRACKING_VARIABLE, absolute_tracking_uri, work_directory
from tasks.engine.local_server import is_listening, listen, local_url, loopback
from tasks.engine.processes import identify
from tasks.engine.redaction import without_secrets

POLL_SECONDS = 0.2
RUN_STOP_SECONDS = 120.0
"""Time for the runs of a worker to save a checkpoint."""
STOP_SECONDS = 20.0
STORE_VARIABLE = "MLFLOW_BACKEND_STORE_URI"
"""Read by `mlflow server`."""
JOBS_VARIABLE = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
"""Read by `mlflow server`: its job runner, for judges of traces, takes processes of its own."""
WORKER_NAME = "sft-flow-up"
WITH_PAGES = ("http://", "https://", "databricks")
"""Prefixes of the addresses of MLflow servers, which have their own UI."""


@dataclass(frozen=True)
class ServiceOptions:
    """Services to start."""

    prefect_port: int
    mlflow_port: int
    pool: str
    has_worker: bool = True

    @property
    def prefect(self) -> str:
        """Address of the Prefect UI."""
        return local_url(self.prefect_port)

    @property
    def mlflow(self) -> str:
        """Address of the MLflow UI."""
        return local_url(self.mlflow_port)


@dataclass(frozen=True)
class Started:
    """Services that run after `start_services`."""

    services: tuple[Service, ...]
    new: frozenset[ServiceName]
    """Started by this call."""
    api: str
    """Address of the Prefect API, ours or the configured one."""
    mlflow: str
    """Address of the MLflow UI, ours or that of the configured server, without password."""
    crashed: tuple[str, ...] = ()
    """Runs without a heartbeat, which are marked Crashed now."""


def start_services(options: ServiceOptions) -> Started:
    """Start the services that do not run yet, and wait until each answers.

    A configured Prefect server that answers is used, and so is a configured MLflow server. If a
    port is in use or a service does not start, those started by this call are stopped again.
    """
    running = read_services()
    before = frozenset(running)
    try:
        api = _start_prefect(options, running)
        mlflow = _start_mlflow(options, running)
        if options.has_worker:
            _start_worker(options, running, api)
        crashed = _watch_runs(api) if ServiceName.PREFECT in running else ()
    except BaseException:
        for name in frozenset(running) - before:
            stop_service(running.pop(name))
        write_services(running)
        raise
    new = frozenset(running) - before
    return Started(tuple(running.values()), new, api, mlflow, crashed)


def stop_services() -> tuple[Service, ...]:
    """Stop what `start_services` started, the worker first; return the stopped services."""
    running = read_services()
    stopped = []
    for name in reversed(ServiceName):
        if service := running.pop(name, None):
            stop_service(service)
            stopped.append(service)
        write_services(running)
    return tuple(stopped)


def stop_service(service: Service) -> None:
    """Stop a service and its child processes; runs of a worker save a checkpoint first."""
    process = service.process()
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        if service.name is ServiceName.WORKER:
            _end(process.children(), RUN_STOP_SECONDS)
        family = process.children(recursive=True)
        _end([process], STOP_SECONDS)
        _end(family, STOP_SECONDS)


def _end(processes: list[psutil.Process], grace_seconds: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _start_prefect(options: ServiceOptions, running: dict[ServiceName, Service]) -> str:
    if service := running.get(ServiceName.PREFECT):
        return f"{service.address}/api"
    configured, api = configured_api(), f"{options.prefect}/api"
    if configured and (configured != api or is_listening(options.prefect_port)):
        check_api(configured)
        return configured
    _require_port(options.prefect_port, "--prefect-port")
    command = (
        "prefect",
        "server",
        "start",
        "--host",
        loopback(),
        "--port",
        str(options.prefect_port),
    )
    with start_lock():
        service = _launch(ServiceName.PREFECT, command, options.prefect, api)
        _keep(service, running, lambda: is_up(api))
    return api


def _watch_runs(api: str) -> tuple[str, ...]:
    """Mark runs Crashed whose machine died, now and later; return the names of those of now."""
    with api_client(api) as client:
        watch_heartbeats(client)
        return tuple(run.name for run in mark_crashed(client))


def _start_mlflow(options: ServiceOptions, running: dict[ServiceName, Service]) -> str:
    uri = absolute_tracking_uri()
    if uri.startswith(WITH_PAGES):
        return without_secrets(uri)
    if service := running.get(ServiceName.MLFLOW):
        return service.address
    _require_port(options.mlflow_port, "--mlflow-port")
    command = ("mlflow", "server", "--host", loopback(), "--port", str(options.mlflow_port))
    # Its store may have a password, which everyone on the machine could read on a command line.
    store = {STORE_VARIABLE: uri, JOBS_VARIABLE: os.environ.get(JOBS_VARIABLE, "false")}
    service = _launch(
        ServiceName.MLFLOW, (*command, "--workers", "1"), options.mlflow, "", settings=store
    )
    _keep(service, running, lambda: is_mlflow_up(options.mlflow))
    return options.mlflow


def _start_worker(options: ServiceOptions, running: dict[ServiceName, Service], api: str) -> None:
    if ServiceName.WORKER in running:
        return
    # Prefect creates a pool that does not exist yet, of this type.
    command = ("prefect", "worker", "start", "--type", "process", "--pool", options.pool)
    # A worker that was killed counts as online for a while: wait for a new heartbeat.
    before = last_heartbeat(api, options.pool)
    service = _launch(ServiceName.WORKER, (*command, "--name", WORKER_NAME), options.pool, api)
    _keep(service, running, lambda: last_heartbeat(api, options.pool) != before)


def _launch(
    name: ServiceName,
    command: tuple[str, ...],
    address: str,
    api: str,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Service:
    """Start a process that outlives this command and its terminal."""
    folder = work_directory() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    ours = server_environment() if name is ServiceName.PREFECT else os.environ
    environment = {**ours, **settings, "SFT_HOME": str(work_directory())}
    environment.pop("PREFECT_LOGGING_SERVER_LEVEL", None)
    if api:
        environment[API_VARIABLE] = api
        if login := own_login(api):
            environment[LOGIN_VARIABLE] = login
    if name is ServiceName.MLFLOW:
        environment.pop(TRACKING_VARIABLE, None)
        environment["PYTHONSAFEPATH"] = "1"  # it starts another Python with -m
    elif TRACKING_VARIABLE in environment:
        environment[TRACKING_VARIABLE] = absolute_tracking_uri()  # runs start in other folders
    with log.open("ab") as stream:
        process = subprocess.Popen(  # noqa: S603 - existing commands, our arguments
            [sys.executable, "-P", "-m", *command],  # -P: nothing is imported from this folder
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    identity = identify(process.pid)
    return Service(name=name, pid=process.pid, identity=identity, address=address, log=str(log))


def _keep(service: Service, running: dict[ServiceName, Service], is_up: Callable[[], bool]) -> None:
    """Record the service at once, so that it can be stopped, and wait until it answers."""
    running[service.name] = service
    write_services(running)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and service.process():
        if is_up():
            return
        time.sleep(POLL_SECONDS)
    raise ServiceUnreachable(
        f"{service.name} did not start",
        where=service.address,
        expected=f"an answer within {START_SECONDS:.0f} s",
        got="no answer" if service.process() else f"it exited: {last_line(Path(service.log))}",
        fix=f"see {service.log}",
    )


def _require_port(port: int, option: str) -> None:
    try:
        listen(port).close()
    except OSError as error:
        raise ServiceUnreachable(
            f"port {port} is already in use",
            where=local_url(port).removeprefix("http://"),
            expected="a free port",
            got=str(error),
            fix=f"choose another port with {option}, or stop the process that uses it",
        ) from error


def is_mlflow_up(address: str) -> bool:
    """Return whether an MLflow server that is being started here answers already."""
    from tasks.registry.ping import ping

    port = urlsplit(address).port
    if not port or not is_listening(port):
        return False
    try:
        ping(address)
    except ServiceUnreachable:
        return False
    return True


def last_heartbeat(api: str, pool: str) -> str:
    """Return the time of our worker's last heartbeat; empty if there is none or no answer."""
    from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName

    named = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    with contextlib.suppress(ServiceUnreachable), api_client(api, is_patient=False) as client:
        if client.read_work_pools(work_pool_filter=named):
            workers = client.read_workers_for_work_pool(pool)
            ours = [worker for worker in workers if worker.name == WORKER_NAME]
            return str(ours[0].last_heartbeat_time or "") if ours else ""
    return ""
