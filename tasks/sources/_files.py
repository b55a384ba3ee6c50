"""Data files on this machine, named by a path, a folder or a pattern."""

from __future__ import annotations

import glob
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from schemas.errors import DataSourceError
from tasks.sources._compression import DataFile
from tasks.sources._contents import check_unnamed
from tasks.sources._kinds import (
    KINDS,
    METADATA_NAMES,
    PLAIN_TEXT,
    data_ending,
    is_data,
    unknown_kind,
    way_out,
)
from tasks.sources._saved_datasets import saved_files

LOGGER = logging.getLogger(__name__)
FILE_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)
"""What a name may be that cannot be read as a file."""


def local_files(name: str, split: str = "train") -> tuple[Path, ...]:
    """List the data files of a name, in the order of their paths.

    Args:
        name: A file, a folder (the files in it, not in its folders), a pattern such as
            `data/**/*.jsonl`, or one of these after file://. A folder may also be one that the
            datasets library saved.
        split: Which split of a saved dataset.

    Returns:
        The files; none if the name does not exist.

    Raises:
        DataSourceError: The name is something else, or has no data file in it.
    """
    path = Path(os.path.expanduser(name.removeprefix("file://")))
    try:
        if path.is_dir():
            files = saved_files(path, name, split) or _files_of_folder(path, name)
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
        _check_regular(path)
        what, _ = way_out(path.name)
        if what in ("", PLAIN_TEXT):
            check_unnamed(DataFile(path, path.name))
        raise unknown_kind(name)
    return path


def _files_of_folder(folder: Path, name: str) -> tuple[Path, ...]:
    entries = sorted(folder.iterdir())
    files = tuple(entry for entry in entries if is_data(entry.name))
    if not files:
        folders = [entry.name for entry in entries if entry.is_dir()]
        others = [entry.name for entry in entries if not entry.is_dir()]
        raise DataSourceError(
            f"folder {name} has no data file",
            expected=KINDS,
            got=f"folders {', '.join(folders[:5])}" if folders else _listed(others),
            fix="name the folder that has the files itself, or a pattern such as data/**/*.jsonl",
        )
    _note_metadata(entries, name)
    return files


def _files_of_pattern(pattern: str, name: str) -> tuple[Path, ...]:
    found = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    files = tuple(path for path in found if is_data(path.name))
    if not files:
        others = [path.name for path in found if not path.is_dir()]
        raise DataSourceError(
            f"the pattern {name} matches no data file",
            expected=KINDS,
            got=_listed(others) if others else "no match",
            fix="check the pattern; quote it on the command line, ** matches any folders",
        )
    _note_metadata(found, name)
    return files


def _listed(names: list[str]) -> str:
    return f"files {', '.join(names[:5])}" if names else "no such file"


def _note_metadata(paths: Iterable[Path], name: str) -> None:
    """Log which files are left out although their names end as those of data."""
    left_out = sorted({path.name for path in paths if path.name in METADATA_NAMES})
    if left_out:
        LOGGER.warning("%s: left out %s, which describe the data", name, ", ".join(left_out))


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


def file_labels(files: Sequence[PurePath]) -> tuple[str, ...]:
    """Shorten file names for messages and output: bare names, or relative paths if two are equal."""
    names = tuple(file.name for file in files)
    if len(set(names)) == len(names):
        return names
    folder = os.path.commonpath([file.parent for file in files])
    return tuple(os.path.relpath(file, folder) for file in files)
