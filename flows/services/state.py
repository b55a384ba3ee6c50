"""Which services `sft-flow up` started: a file in the work directory, and whether they still run."""

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


class ServiceName(StrEnum):
    """A process that `sft-flow up` starts; in the order they are started."""

    PREFECT = "prefect"
    MLFLOW = "mlflow"
    WORKER = "worker"


class Service(Record):
    """A process that was started, and how to find it again."""

    name: ServiceName
    pid: int
    created: float
    """Start of the process in seconds since 1970: another process may get its id later."""
    address: str
    """Of the service's page; of the worker: its work pool."""
    log: str

    def process(self) -> psutil.Process | None:
        """Find the process.

        Returns:
            The process; None when it has ended, also where its id belongs to another by now.
        """
        try:
            process = psutil.Process(self.pid)
            is_ours = abs(process.create_time() - self.created) < 1
            is_alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if is_ours and is_alive else None


@contextmanager
def hold_services(tell: Callable[[str], object]) -> Iterator[None]:
    """Let one `up` or `down` at a time work on the services of this work directory.

    Args:
        tell: Gets a sentence when there is another to wait for.

    Yields:
        Nothing, while the lock is held; it is released when the process ends, however it ends.
    """
    path = state_path().with_suffix(".lock")
    with take_turns(path, tell, "waiting for another `sft-flow up` or `down` to end"):
        yield


def state_path() -> Path:
    """Name the file.

    Returns:
        Its path in the work directory.
    """
    return work_directory() / "services.json"


def read_services() -> dict[ServiceName, Service]:
    """Read which services run.

    Returns:
        Those whose process is alive, by name.

    Raises:
        WorkDirectoryError: The file is not ours or damaged.
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
            expected="what `sft-flow up` wrote",
            got=str(error).splitlines()[0],
            fix="stop the services by hand if any run, delete the file, and run `sft-flow up`",
        ) from error
    return {service.name: service for service in services if service.process()}


def write_services(services: dict[ServiceName, Service]) -> None:
    """Write which services run; none removes the file.

    Args:
        services: By name.
    """
    path = state_path()
    if not services:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [service.model_dump(mode="json") for service in services.values()]
    write_atomic(path, json.dumps(items, indent=1))


def local_prefect_api() -> str | None:
    """Find the Prefect server that `sft-flow up` started.

    Returns:
        Address of its API; None when it does not run.
    """
    service = read_services().get(ServiceName.PREFECT)
    return f"{service.address}/api" if service else None
