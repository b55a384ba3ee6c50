"""A full disk, as an error that names the folder and is not tried again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import SftFlowError, WorkDirectoryError, is_disk_full
from tasks.engine.home import work_directory
from tasks.engine.wording import gibibytes


@contextmanager
def naming_full_disks() -> Iterator[None]:
    """Raise a WorkDirectoryError instead of what a library raises when a disk is full."""
    try:
        yield
    except SftFlowError:
        raise
    except Exception as error:
        if named := name_full_disk(error):
            raise named from error
        raise


def name_full_disk(error: BaseException) -> WorkDirectoryError | None:
    """Make the error for a full disk: of the work directory, or of the folder for temporary files.

    The fuller of the two unless the error names one of them. None for any other error.
    """
    if not is_disk_full(error):
        return None
    folders = {"SFT_HOME": work_directory(), "TMPDIR": Path(tempfile.gettempdir())}
    free = {name: _free_bytes(folder) for name, folder in folders.items()}
    named = [name for name, folder in folders.items() if str(folder) in str(error)]
    variable = min(named or folders, key=lambda name: free[name])
    return WorkDirectoryError(
        f"the disk is full: {_first_line(error)}",
        where=f"{folders[variable]} ({variable})",
        expected="a disk with space for all files of a run",
        got=", ".join(
            f"{gibibytes(free[name])} free in {name}{_files_left(folder)}"
            for name, folder in folders.items()
        ),
        fix=f"free space (or quota), for instance with `sft-flow clean`, or set {variable} to a folder on another "
        "disk; finished stages and checkpoints are kept",
    )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def _files_left(folder: Path) -> str:
    """Return words for a disk that has space, but cannot have another file; else nothing."""
    usage = os.statvfs(_existing(folder))
    return " but no more files" if usage.f_files and not usage.f_favail else ""


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if os.path.exists(one))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
