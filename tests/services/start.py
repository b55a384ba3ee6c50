"""PostgreSQL, an S3 store, an MLflow server and a Prefect server, on this machine only.

`python -m tests.services.start` runs them until Ctrl-C and prints the settings for another shell.
It needs Debian's package postgresql and the extra `services`.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.local_server import free_port, local_url, loopback
from tests.services.postgresql import find_postgresql, running_postgresql
from tests.support.mlflow_server import running_mlflow
from tests.support.prefect_server import Server, running_server
from tests.support.processes import running

BUCKET = "models"
KEY = "testing"


@dataclass(frozen=True)
class Services:
    """What runs, and how to reach it."""

    postgresql: str
    """`user:password@host:port`; the databases are `mlflow` and `prefect`."""
    s3: str
    """Address of the S3 store, whose bucket is `models`."""
    mlflow: str
    prefect: Server

    def settings(self) -> dict[str, str]:
        """Name what the product needs to know.

        Returns:
            Environment variables.
        """
        return {"PREFECT_API_URL": self.prefect.address, "MLFLOW_TRACKING_URI": self.mlflow}


def missing_parts() -> str:
    """Say what is not installed.

    Returns:
        What to install; empty when everything is there.
    """
    fixes = [] if find_postgresql() else ["PostgreSQL's programs: apt-get install postgresql"]
    if not all(importlib.util.find_spec(name) for name in ("boto3", "moto", "psycopg2")):
        fixes.append("the extra services: pip install -e '.[services]'")
    return f"missing: {'; '.join(fixes)}" if fixes else ""


@contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """Run all four until the block ends.

    Args:
        folder: Gets their logs.

    Yields:
        Their addresses.

    Raises:
        FileNotFoundError: Something is not installed.
    """
    programs = find_postgresql()
    if programs is None or missing_parts():
        raise FileNotFoundError(missing_parts())
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        stores = (running_postgresql(programs, folder), running_s3(folder))
        postgresql, s3 = pool.map(stack.enter_context, stores)
        mlflow = pool.submit(
            stack.enter_context,
            running_mlflow(
                folder,
                f"postgresql+psycopg2://{postgresql}/mlflow",
                f"s3://{BUCKET}/mlflow",
                s3_settings(s3),
            ),
        )
        server = running_server(folder, f"postgresql+asyncpg://{postgresql}/prefect")
        prefect = stack.enter_context(server)
        yield Services(postgresql, s3, mlflow.result(), prefect)


@contextmanager
def running_s3(folder: Path) -> Iterator[str]:
    """Run moto's S3 server with an empty bucket.

    Args:
        folder: Gets its log.

    Yields:
        Its address.
    """
    port = free_port()
    address = local_url(port)
    command = [sys.executable, "-m", "moto.server", "-H", loopback(), "-p", str(port)]
    with running(command, folder / "s3.log", {}, lambda: _has_bucket(address)):
        yield address


def connect_s3(address: str) -> Any:
    """Open the S3 store.

    Args:
        address: Of the store.

    Returns:
        A client of boto3.
    """
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEY,
        aws_secret_access_key=KEY,
        region_name="us-east-1",
    )


def _has_bucket(address: str) -> bool:
    from botocore.exceptions import EndpointConnectionError

    try:
        connect_s3(address).create_bucket(Bucket=BUCKET)
    except EndpointConnectionError:
        return False
    return True


def s3_settings(address: str) -> dict[str, str]:
    """Say how MLflow's server reaches the S3 store; its clients need none of it.

    Args:
        address: Of the store.

    Returns:
        Environment variables.
    """
    return {
        "MLFLOW_S3_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def main() -> None:
    """Run everything until Ctrl-C or SIGTERM."""
    if missing := missing_parts():
        sys.exit(missing)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="sft-flow-services-") as folder:
        try:
            with running_services(Path(folder)) as services:
                lines = [f"export {name}={value}" for name, value in services.settings().items()]
                lines.append(f"# logs: {folder}; Ctrl-C stops all\n")
                sys.stdout.write("\n".join(lines))
                sys.stdout.flush()
                signal.pause()
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
