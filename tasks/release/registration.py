"""Register a result in one process at a time, and clean up after an interrupted registration."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from tasks.engine.home import store_name, work_directory
from tasks.release.retention import delete_model_files

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOGGER = logging.getLogger(__name__)
LOCKED = ".lock"


@contextmanager
def registering(client: MlflowClient, fingerprint: str) -> Iterator[Path]:
    """Lock the registration of a result, and discard the run of a killed process.

    Args:
        client: The store.
        fingerprint: Of the result.

    Yields:
        File for the id of the run, to write before anything is logged; deleted at the end.
    """
    note = work_directory() / "registering" / f"{fingerprint}-{_store_digest()}"
    note.parent.mkdir(parents=True, exist_ok=True)
    lock = note.with_suffix(LOCKED)
    with FileLock(lock):
        if note.is_file() and not _try_discard(client, note):
            note.rename(note.with_name(f"{note.read_text(encoding='utf-8')}-{_store_digest()}"))
        yield note
        note.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)  # while it is locked, which those who wait for it notice


def discard_left_runs(client: MlflowClient) -> None:
    """Discard the runs of registrations whose process was killed, of whatever result.

    Those of another store wait until it is used; a run that cannot be deleted is reported.
    """
    found = (work_directory() / "registering").glob(f"*-{_store_digest()}*")
    for note in sorted({path.with_suffix("") for path in found}):
        lock = note.with_suffix(LOCKED)
        try:
            with FileLock(lock, timeout=0):
                if note.is_file() and _try_discard(client, note):
                    note.unlink(missing_ok=True)
                if not note.is_file():
                    lock.unlink(missing_ok=True)
        except Timeout:
            continue  # its process registers


def _store_digest() -> str:
    """Identify the store in the name of a note, without a secret of its address."""
    return hashlib.sha256(store_name().encode()).hexdigest()[:16]


def _try_discard(client: MlflowClient, note: Path) -> bool:
    """Discard the run of a note; False, and a warning, if the store does not allow it."""
    run_id = note.read_text(encoding="utf-8")
    try:
        discard_run(client, run_id)
    except Exception as error:  # of MLflow, or of any kind of artifact store
        LOGGER.warning("run %s of a killed registration cannot be deleted: %s", run_id, error)
        return False
    return True


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
