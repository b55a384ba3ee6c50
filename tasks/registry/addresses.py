"""Addresses of artifacts in the default store, which follow the work directory when it is moved."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from schemas.errors import WorkDirectoryError
from tasks.engine.active_runs import is_used_elsewhere
from tasks.engine.home import ARTIFACTS, default_store, is_default_store, work_directory

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow stores absolute addresses of artifacts."""
LOCK_SECONDS = 30.0


def follow_move() -> None:
    """Let the addresses in the default store name the work directory where it is now.

    MLflow stores absolute addresses: after a move, versions would have no files, and new artifacts
    would be written to the old place.

    Raises:
        WorkDirectoryError: A run in progress uses the same work directory by another path.
    """
    if not is_default_store():
        return
    home = work_directory()
    with closing(sqlite3.connect(default_store(), timeout=LOCK_SECONDS)) as database, database:
        found = database.execute("SELECT DISTINCT artifact_location FROM experiments")
        for old in {folder for (address,) in found if (folder := _other_home(address or ""))}:
            if is_used_elsewhere():
                raise WorkDirectoryError(
                    "a run in progress uses this work directory by another path",
                    where=str(home),
                    expected=f"one path for all processes; that run has {old}",
                    got=str(home),
                    fix=f"wait until the run has ended, or set SFT_HOME={old}",
                )
            for table, column in COLUMNS:
                database.execute(
                    f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "  # noqa: S608 - no name comes from outside
                    f"WHERE substr({column}, 1, length(?2)) = ?2",
                    (f"{home.as_uri()}/", f"{old.as_uri()}/"),
                )


def _other_home(address: str) -> Path | None:
    """Return the work directory that an experiment's address was made for, unless it is the present one.

    A folder with artifacts but no store, or of another name, is not a work directory.
    """
    parts = urlsplit(address)
    place = Path(url2pathname(parts.path))
    if parts.scheme != "file" or place.name != ARTIFACTS:
        return None
    old, home = place.parent, work_directory()
    if os.path.exists(place) and (
        not os.path.exists(old / default_store().name) or os.path.samefile(old, home)
    ):
        return None
    return None if old == home else old
