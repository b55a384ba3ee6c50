"""An MLflow server on a free port."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flows.services.local import is_mlflow_up
from tasks.engine.local_server import free_port, local_url, loopback
from tests.support.processes import running


@contextmanager
def running_mlflow(
    folder: Path, store: str, artifacts: str, settings: Mapping[str, str]
) -> Iterator[str]:
    """Run an MLflow server that passes artefacts on, so that clients need no key of their store.

    Args:
        folder: Gets its log.
        store: SQLAlchemy's address of the database.
        artifacts: Folder or address the artefacts lie at.
        settings: Environment variables of the server.

    Yields:
        Its address.
    """
    port = free_port()
    address = local_url(port)
    where = ["--host", loopback(), "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", store, "--artifacts-destination", artifacts]
    # Its job workers are more processes, and nothing here uses them.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with running(
        [sys.executable, "-m", "mlflow", "server", *where, *stores],
        folder / "mlflow.log",
        {**quiet, **settings},
        lambda: is_mlflow_up(address),
    ):
        yield address
