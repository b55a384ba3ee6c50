"""Data files on this machine, named by a path, a folder or a pattern."""

from __future__ import annotations

import glob
import json
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePath

from schemas.errors import DataSourceError
from tasks.sources._compression import DataFile
from tasks.sources._contents import check_unnamed
from tasks.sources._json_wrappers import ROW_FIELDS, rows_in
from tasks.sources._kinds import (
    KINDS,
    METADATA_NAMES,
    PLAIN_TEXT,
    data_ending,
    is_data,
    unknown_kind,
    way_out,
)
from tasks.sources._row_shapes import is_row
from tasks.sources._saved_datasets import saved_files

LOGGER = logging.getLogger(__name__)
MOST_METADATA_BYTES = 1 << 20
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
    return _without_metadata(entries, files, name)


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
    return _without_metadata(found, files, name)


def _listed(names: list[str]) -> str:
    return f"files {', '.join(names[:5])}" if names else "no such file"


def _without_metadata(
    paths: Iterable[Path], files: tuple[Path, ...], name: str
) -> tuple[Path, ...]:
    """Leave files out that describe the data although their names end as those of data."""
    described = {path: names for path in files if (names := _names_of_metadata(path))}
    # Files with one row each have the same names; a folder of nothing else has its rows there.
    if len(described) == len(files) or len(set(described.values())) < len(described):
        described = {}
    left_out = {path.name for path in described}
    left_out |= {path.name for path in paths if path.name in METADATA_NAMES}
    if left_out:
        _warn_once(name, ", ".join(sorted(left_out)))
    return tuple(path for path in files if path not in described)


@cache
def _warn_once(name: str, left_out: str) -> None:
    """Log which files are left out; a name is resolved more than once in a run."""
    LOGGER.warning("%s: left out %s, which describe the data", name, left_out)


def _names_of_metadata(path: Path) -> frozenset[str]:
    """Return the names in a .json file that is one object without rows; otherwise none."""
    if path.suffix.lower() != ".json" or path.stat().st_size > MOST_METADATA_BYTES:
        return frozenset()
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return frozenset()
    if not isinstance(value, dict) or is_row(value) or not ROW_FIELDS.isdisjoint(value):
        return frozenset()
    try:
        rows = rows_in(DataFile(path, path.name), value, is_alone=True)
    except DataSourceError:
        return frozenset()
    return frozenset(value) if rows is None else frozenset()


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
