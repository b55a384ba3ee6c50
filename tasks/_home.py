"""Where the product keeps its files, and what it tells other libraries through the environment."""

from __future__ import annotations

import os
from pathlib import Path

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


def tracking_uri() -> str:
    """Name the MLflow store: `MLFLOW_TRACKING_URI`, or SQLite in the work directory.

    Returns:
        A URI that MLflow understands; a relative path in it starts from the current folder.
    """
    return os.environ.get(TRACKING_VARIABLE) or f"sqlite:///{work_directory()}/mlflow.db"


def absolute_tracking_uri() -> str:
    """Name the MLflow store so that a process in another folder finds the same.

    Returns:
        `tracking_uri`, with the path of a SQLite file or a folder made absolute.
    """
    uri = tracking_uri()
    prefix = "sqlite:///" if uri.startswith("sqlite:///") else ""
    path = uri.removeprefix(prefix)
    is_local = bool(prefix) or ("://" not in uri and not uri.startswith(("file:", "databricks")))
    return f"{prefix}{Path(path).absolute()}" if is_local else uri


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
    uri = tracking_uri()
    is_file = uri.startswith("sqlite:///")
    return not is_file or Path(uri.removeprefix("sqlite:///")).is_file()
