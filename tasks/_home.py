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
        A URI that MLflow understands.
    """
    return os.environ.get(TRACKING_VARIABLE) or f"sqlite:///{work_directory()}/mlflow.db"
