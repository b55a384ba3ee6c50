"""Runs of MLflow that a process of this work directory writes to, so that none stays RUNNING."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from tasks.engine.files import write_atomic
from tasks.engine.home import store_name, work_directory
from tasks.registry.tags import ERROR_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOGGER = logging.getLogger(__name__)
LOCK_SECONDS = 10.0
KILLED = "the process that wrote to this run was killed"


def open_runs_folder() -> Path:
    """Return the folder with a note for each open run."""
    return work_directory() / "open_runs"


class OpenRun:
    """A run that this process writes to, until `close`; its lock ends with the process."""

    def __init__(self, run_id: str) -> None:
        """Note the run, and lock the note."""
        folder = open_runs_folder()
        folder.mkdir(parents=True, exist_ok=True)
        self._note = folder / f"{run_id}.json"
        self._lock = FileLock(self._note.with_suffix(".lock"), thread_local=False)
        self._lock.acquire(timeout=LOCK_SECONDS)
        store = store_name()
        write_atomic(self._note, json.dumps({"run_id": run_id, "tracking_uri": store}))

    def close(self) -> None:
        """Forget the run, whose status has been set."""
        self._note.unlink(missing_ok=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)  # while it is locked
        self._lock.release()

    def leave(self) -> None:
        """Leave the run to the next process, since its status could not be set."""
        self._lock.release()


def close_left_runs(client: MlflowClient) -> list[str]:
    """Set the status of runs that killed processes of this work directory left RUNNING.

    Runs of other software, and those of a process that still has its lock, stay as they are. A run
    that cannot be closed is reported.

    Args:
        client: The store.

    Returns:
        The ids of the runs that are KILLED now.
    """
    closed = []
    for note in sorted(open_runs_folder().glob("*.json")):
        lock = note.with_suffix(".lock")
        try:
            with FileLock(lock, timeout=0):
                if note.is_file() and _close(client, note):
                    closed.append(note.stem)
                if not note.is_file():
                    lock.unlink(missing_ok=True)
        except Timeout:
            continue
        except Exception as error:  # of MLflow, or of the connection
            LOGGER.warning("run %s of a killed process cannot be closed: %s", note.stem, error)
    return closed


def _close(client: MlflowClient, note: Path) -> bool:
    """Close the run of a note; True if it was RUNNING."""
    from mlflow.exceptions import MlflowException

    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        run_id, store = str(known["run_id"]), known["tracking_uri"]
    except (OSError, ValueError, KeyError, TypeError):
        note.unlink(missing_ok=True)
        return False
    if store != store_name():
        return False
    is_open = False
    try:
        info = client.get_run(run_id).info
        is_open = info.status == "RUNNING" and info.lifecycle_stage == "active"
        if is_open:
            client.set_tag(run_id, ERROR_TAG, KILLED)
            client.set_terminated(run_id, "KILLED")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    note.unlink(missing_ok=True)
    return is_open
