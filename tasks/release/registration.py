"""Register a result in one process at a time, and clean up after an interrupted registration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tasks.engine.home import work_directory
from tasks.release.retention import delete_model_files

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextmanager
def registering(client: MlflowClient, fingerprint: str) -> Iterator[Path]:
    """Lock the registration of a result, and discard the run of a killed process.

    Args:
        client: The store.
        fingerprint: Of the result.

    Yields:
        File for the id of the run, to write before anything is logged; deleted at the end.
    """
    note = work_directory() / "registering" / fingerprint
    note.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(note.with_suffix(".lock")):
        if note.is_file():
            discard_run(client, note.read_text(encoding="utf-8"))
        yield note
        note.unlink(missing_ok=True)


def discard_run(client: MlflowClient, run_id: str) -> None:
    """Delete a run, and the models it logged, unless it has a version."""
    from mlflow.exceptions import MlflowException

    if client.search_model_versions(f"run_id = '{run_id}'"):
        return
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return
        raise
    for model in run.outputs.model_outputs if run.outputs else ():
        delete_model_files(client, model.model_id)
        client.delete_logged_model(model.model_id)
    if run.info.lifecycle_stage == "active":
        client.delete_run(run_id)
