"""The services that `sft-flow up` started: a file in the work directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import psutil

from schemas.base import Record
from schemas.errors import WorkDirectoryError
from tasks.engine.files import write_atomic
from tasks.engine.home import work_directory
from tasks.engine.locks import take_turns
from tasks.engine.processes import find_process


class ServiceName(StrEnum):
    """A process that `sft-flow up` starts, in this order."""

    PREFECT = "prefect"
    MLFLOW = "mlflow"
    WORKER = "worker"


class Service(Record):
    """A started process, and how to find it again."""

    name: ServiceName
    pid: int
    identity: str
    """Id and start, because another process may get the same id later."""
    address: str
    """Address of the service's UI; work pool of the worker."""
    log: str

    def process(self) -> psutil.Process | None:
        """Return the process; None if it has ended, even if another process has its id now."""
        return find_process(self.identity)


@contextmanager
def lock_services(tell: Callable[[str], object]) -> Iterator[None]:
    """Allow one `up` or `down` at a time in this work directory.

    Args:
        tell: Called with a sentence if another command has the lock.

    Yields:
        Nothing; the lock is released when the process ends, however it ends.
    """
    path = state_path().with_suffix(".lock")
    with take_turns(path, tell, "waiting for another `sft-flow up` or `down` to end"):
        yield


def state_path() -> Path:
    """Return the path of services.json in the work directory."""
    return work_directory() / "services.json"


def read_services() -> dict[ServiceName, Service]:
    """Read the services whose process is alive.

    Returns:
        Services by name.

    Raises:
        WorkDirectoryError: The file is damaged or was written by another program.
    """
    path = state_path()
    if not path.is_file():
        return {}
    try:
        services = [Service.model_validate(item) for item in json.loads(path.read_text("utf-8"))]
    except (ValueError, TypeError) as error:
        raise WorkDirectoryError(
            "the list of services cannot be read",
            where=str(path),
            expected="a file written by `sft-flow up`",
            got=str(error).splitlines()[0],
            fix="stop running services by hand, delete the file, and run `sft-flow up`",
        ) from error
    return {service.name: service for service in services if service.process()}


def write_services(services: dict[ServiceName, Service]) -> None:
    """Write the running services; without any, delete the file."""
    path = state_path()
    if not services:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [service.model_dump(mode="json") for service in services.values()]
    write_atomic(path, json.dumps(items, indent=1))


def local_prefect_api() -> str | None:
    """Return the API address of the Prefect server of `sft-flow up`; None if it does not run."""
    service = read_services().get(ServiceName.PREFECT)
    return f"{service.address}/api" if service else None
