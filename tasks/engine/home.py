"""Where the product keeps its files, and the environment variables it sets for libraries."""

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
"""No usage events from our processes, no thread warnings, few server logs."""
SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPIN_COUNT = "1000"
"""How often a thread of torch looks for the others before it sleeps; libgomp's default is 300,000.

Spinning costs nothing while each thread has a core. Next to another process, it takes from the
thread that all wait for the time in which that one could finish.
"""
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"


def prepare_environment() -> None:
    """Set what libraries read when they are loaded; a variable that the user has set stays.

    libgomp reads its variables as torch loads it, so that this has to come first in every process
    that computes; processes that it starts inherit them.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not any(name in os.environ for name in SPIN_VARIABLES):
        os.environ[SPIN_VARIABLES[0]] = SPIN_COUNT


def work_directory() -> Path:
    """Return `SFT_HOME`, or `.sft` in the current folder; it need not exist yet."""
    return Path(os.environ.get("SFT_HOME", ".sft")).expanduser().absolute()


def source_folder() -> Path:
    """Return the folder of this product's packages: the clone, or site-packages."""
    return Path(tasks.__file__).resolve().parent.parent


def python_path(environment: Mapping[str, str]) -> str:
    """Return the `PYTHONPATH` for a process that is started: this product's folder first."""
    known = environment.get("PYTHONPATH")
    return os.pathsep.join(part for part in (str(source_folder()), known) if part)


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or SQLite in the work directory.

    A relative path in it starts from the current folder.
    """
    return os.environ.get(TRACKING_VARIABLE) or f"{SQLITE}{work_directory()}/mlflow.db"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, as the URI has it; None for any other store."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def absolute_tracking_uri() -> str:
    """Return `tracking_uri` with an absolute path, for a process in another folder."""
    uri = tracking_uri()
    if file := sqlite_file(uri):
        return f"{SQLITE}{file.absolute()}"
    is_folder = "://" not in uri and not uri.startswith(("file:", "databricks"))
    return str(Path(uri).absolute()) if is_folder else uri


def artifact_location() -> str | None:
    """Return where a new experiment of the default store keeps artifacts; else the store decides."""
    is_default = not os.environ.get(TRACKING_VARIABLE)
    return (work_directory() / "artifacts").as_uri() if is_default else None


def has_store() -> bool:
    """Return whether there is a store, without making one: False if its SQLite file is missing."""
    file = sqlite_file(tracking_uri())
    return file is None or file.is_file()
