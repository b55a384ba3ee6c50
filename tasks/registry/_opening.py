"""Open a store, or create its file, so that no other process meets one that is half made."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from schemas.errors import ConfigError
from tasks.engine.home import SQLITE, TRACKING_VARIABLE, work_directory
from tasks.engine.redaction import without_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient


def taking_turns() -> AbstractContextManager[object]:
    """Return the lock of the store; nothing where it can only be read, and so neither made nor moved."""
    path = work_directory() / "mlflow.lock"
    there = path if path.exists() else path.parent
    return FileLock(path) if os.access(there, os.W_OK) else nullcontext()


def open_other(uri: str) -> MlflowClient:
    """Open a store that is not a SQLite file; plugins of MLflow know more kinds of addresses than it.

    Args:
        uri: Address of the store, which MLflow has already.

    Returns:
        The client.

    Raises:
        ConfigError: No store has such an address.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

    try:
        return mlflow.MlflowClient()
    except MlflowException as error:
        is_folder = urlsplit(uri).scheme in ("", "file") and uri != "databricks"
        if not is_folder and not isinstance(error, UnsupportedModelRegistryStoreURIException):
            raise
        raise ConfigError(
            "MLflow cannot use this address",
            where=TRACKING_VARIABLE,
            expected="http://host:port, https://host, sqlite:///file or postgresql://host/database",
            got=without_secrets(uri),
            fix=f"correct {TRACKING_VARIABLE}, without quotes; or unset it to use SQLite in the work "
            "directory",
        ) from error


def create_store(file: Path) -> None:
    """Create a SQLite store, whose file gets its name when the tables are complete.

    MLflow creates them in migrations that take seconds and are no transaction: of a process that is
    killed meanwhile, there would remain a file that MLflow can neither open nor upgrade.
    """
    import mlflow

    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.partial")
    scratch.unlink(missing_ok=True)
    address = f"{SQLITE}{scratch}"
    mlflow.MlflowClient(tracking_uri=address, registry_uri=address)
    if file.exists():  # another work directory was quicker
        scratch.unlink()
    else:
        scratch.rename(file)
