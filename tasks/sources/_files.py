"""Data files on this machine, named by a path, a folder or a pattern."""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path

from schemas.errors import DataSourceError
from tasks.sources._readers import KINDS, data_ending

FILE_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)
"""What a name may be that cannot be read as a file."""


def local_files(name: str) -> tuple[Path, ...]:
    """List the data files of a name, in the order of their paths.

    Args:
        name: A file, a folder (the files in it, not in its folders), a pattern such as
            `data/**/*.jsonl`, or one of these after file://.

    Returns:
        The files; none if the name does not exist.

    Raises:
        DataSourceError: The name is something else, or has no data file in it.
    """
    path = Path(os.path.expanduser(name.removeprefix("file://")))
    try:
        if path.is_dir():
            files = _files_of_folder(path, name)
        elif path.exists():
            files = (_known_kind(path, name),)
        else:
            files = _files_of_pattern(str(path), name) if glob.has_magic(str(path)) else ()
        for file in files:
            _check_regular(file)
    except OSError as error:
        raise DataSourceError(
            f"{name} cannot be read: {error.strerror or error}",
            where=str(error.filename or name),
            fix="check the name and the permissions of the file and its folders",
        ) from error
    return files


def _known_kind(path: Path, name: str) -> Path:
    if data_ending(path.name) is None:
        raise DataSourceError(
            f"{name} is not a kind of data file that can be read",
            expected=KINDS,
            got=path.suffix or "no ending",
            fix="convert the data to one of these kinds, or give the file its right ending",
        )
    return path


def _files_of_folder(folder: Path, name: str) -> tuple[Path, ...]:
    files = tuple(
        file
        for file in sorted(folder.iterdir())
        if data_ending(file.name) and not file.name.startswith(".")
    )
    if not files:
        folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        raise DataSourceError(
            f"folder {name} has no data file",
            expected=KINDS,
            got=f"folders {', '.join(folders[:5])}" if folders else "no such file",
            fix="name the folder that has the files itself, or a pattern such as data/**/*.jsonl",
        )
    return files


def _files_of_pattern(pattern: str, name: str) -> tuple[Path, ...]:
    found = [Path(match) for match in glob.glob(pattern, recursive=True)]
    files = tuple(sorted(path for path in found if data_ending(path.name)))
    if not files:
        others = sorted(path.name for path in found if not path.is_dir())
        raise DataSourceError(
            f"the pattern {name} matches no data file",
            expected=KINDS,
            got=f"files {', '.join(others[:5])}" if others else "no match",
            fix="check the pattern; quote it on the command line, ** matches any folders",
        )
    return files


def _check_regular(file: Path) -> None:
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in FILE_KINDS if is_kind(mode)), "a device")
        raise DataSourceError(
            f"{file.name} is {kind}, not a file",
            where=str(file),
            expected="a file with data",
            got=kind,
            fix="name the file that has the data, or write the data to a file first",
        )


def file_labels(files: tuple[Path, ...]) -> tuple[str, ...]:
    """Shorten file names for messages and output: bare names, or relative paths if two are equal."""
    names = tuple(file.name for file in files)
    if len(set(names)) == len(names):
        return names
    folder = os.path.commonpath([file.parent for file in files])
    return tuple(os.path.relpath(file, folder) for file in files)
