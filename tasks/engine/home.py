"""Where the product keeps its files, and what it tells other libraries through the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import tasks

QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
}
"""No usage events from our processes, no thread warnings, no server chatter."""


TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"


def quiet_environment() -> None:
    """Set what is not set yet; a value the user chose stays."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def work_directory() -> Path:
    """Name the folder every output lies in: `SFT_HOME`, or `.sft` in the current folder.

    Returns:
        An absolute path; the folder need not exist yet.
    """
    return Path(os.environ.get("SFT_HOME", ".sft")).expanduser().absolute()


def source_folder() -> Path:
    """Name the folder of this product's packages.

    Returns:
        The root of the clone, or the environment's site-packages.
    """
    return Path(tasks.__file__).resolve().parent.parent


def python_path(environment: Mapping[str, str]) -> str:
    """Give the `PYTHONPATH` of a process of ours: this product's folder first.

    Args:
        environment: Of the process that starts it.

    Returns:
        Folders, parted as the system does it.
    """
    known = environment.get("PYTHONPATH")
    return os.pathsep.join(part for part in (str(source_folder()), known) if part)


def tracking_uri() -> str:
    """Name the MLflow store: `MLFLOW_TRACKING_URI`, or SQLite in the work directory.

    Returns:
        A URI that MLflow understands; a relative path in it starts from the current folder.
    """
    return os.environ.get(TRACKING_VARIABLE) or f"{SQLITE}{work_directory()}/mlflow.db"


def sqlite_file(uri: str) -> Path | None:
    """Name the file of a SQLite store.

    Args:
        uri: Of an MLflow store.

    Returns:
        Its path, as the address has it; None for any other store.
    """
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def absolute_tracking_uri() -> str:
    """Name the MLflow store so that a process in another folder finds the same.

    Returns:
        `tracking_uri`, with the path of a SQLite file or a folder made absolute.
    """
    uri = tracking_uri()
    if file := sqlite_file(uri):
        return f"{SQLITE}{file.absolute()}"
    is_folder = "://" not in uri and not uri.startswith(("file:", "databricks"))
    return str(Path(uri).absolute()) if is_folder else uri


def artifact_location() -> str | None:
    """Say where a new experiment keeps its artefacts.

    Returns:
        A folder of the work directory for the default store; None where the store decides.
    """
    is_default = not os.environ.get(TRACKING_VARIABLE)
    return (work_directory() / "artifacts").as_uri() if is_default else None


def has_store() -> bool:
    """Tell whether there is a store to ask; looking never makes one.

    Returns:
        False where a SQLite file is named and not there.
    """
    file = sqlite_file(tracking_uri())
    return file is None or file.is_file()
