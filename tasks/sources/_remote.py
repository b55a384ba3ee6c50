"""Remote data: datasets of the Hugging Face Hub, and https, s3 and other addresses."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from schemas.config.run import DataSource
from schemas.errors import DataSourceError, ServiceUnreachable, SftFlowError
from schemas.rows.row import SourceRow
from tasks.engine.extras import require
from tasks.engine.progress import progress_bar
from tasks.engine.redaction import without_secrets
from tasks.engine.scratch import scratch_folder
from tasks.sources._files import file_labels
from tasks.sources._kinds import KINDS, data_ending, is_data
from tasks.sources._line_blocks import pack_rows
from tasks.sources._readers import read_file
from tasks.sources._tables import prune_nulls
from tasks.sources.hub import (
    HubKind,
    ask_hub,
    cache_folder,
    hub_commit,
    is_offline,
    not_cached,
)
from tasks.sources.parsing import Block

VERSION_FIELDS = ("ETag", "etag", "Content-MD5", "Digest", "LastModified", "Last-Modified", "mtime")
"""Names of the mark that changes with the content."""


def dataset_commit(source: DataSource) -> str:
    """Find the commit that the revision of a Hub dataset names now."""
    return hub_commit(source.source, source.revision, HubKind.DATASET)


def read_hub(source: DataSource) -> Iterator[Block]:
    """Read one split of a Hub dataset through the `datasets` library.

    Args:
        source: Id, configuration, split and revision.

    Yields:
        Its rows in order, numbered from 1.

    Raises:
        DataSourceError: The dataset, configuration or split does not exist, or is not cached while
            HF_HUB_OFFLINE is set.
    """
    import datasets

    name, revision = source.source, dataset_commit(source)
    if is_offline():
        name, revision = _cached_dataset(source, revision)
    try:
        rows = ask_hub(
            lambda: datasets.load_dataset(
                name, source.config_name, split=source.split, revision=revision or None
            ),
            source.source,
            HubKind.DATASET,
        )
    except ServiceUnreachable as error:
        if is_offline():
            raise _not_cached(source) from error
        raise
    except SftFlowError:
        raise
    except (ValueError, KeyError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise DataSourceError(
            f"dataset {source.source} cannot be read: {_first_line(error)}",
            where=f"configuration {source.config_name or 'default'}, split {source.split}",
            fix="check data.source.config_name and data.source.split",
        ) from error
    label = f"{source.source}/{source.split}"
    numbered = enumerate(rows, start=1)
    yield from pack_rows(
        label, (SourceRow(label, number, prune_nulls(row)) for number, row in numbered)
    )


def _cached_dataset(source: DataSource, revision: str) -> tuple[str, str]:
    """Find a downloaded copy: the Hub's snapshot of the revision, else what `datasets` prepared."""
    snapshot = cache_folder(source.source, HubKind.DATASET) / "snapshots" / revision
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    others = (".txt", ".gz", ".zst")
    if any(data_ending(path.name) or path.suffix.lower() in others for path in files):
        return str(snapshot), ""
    if source.revision is not None:
        raise _not_cached(source)
    return source.source, ""


def _not_cached(source: DataSource) -> SftFlowError:
    return not_cached(source.source, source.revision, HubKind.DATASET)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _addressed(address: str) -> Iterator[tuple[Any, str]]:
    """Open a store, and turn its errors into those of `schemas.errors`."""
    import aiohttp
    import fsspec

    if re.match(r"s3a?://", address):
        require("s3fs", "data at s3://")
    try:
        yield fsspec.core.url_to_fs(address)
    except SftFlowError:
        raise
    except (OSError, TimeoutError, ImportError, ValueError, aiohttp.ClientError) as error:
        # fsspec raises FileNotFoundError for any error over HTTP; the cause is more exact.
        is_web_fault = isinstance(error.__cause__, (aiohttp.ClientError, TimeoutError))
        cause = error.__cause__ if is_web_fault else error
        raise _address_fault(cause or error, without_secrets(address)) from error


def _address_fault(error: BaseException, where: str) -> SftFlowError:
    """Make the error for an address; only some are worth a retry."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return DataSourceError(
            "there is no file at this address",
            where=where,
            fix="check the address; a browser or the store's own client must find it",
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        return DataSourceError(
            "the server or store does not let this address be read",
            where=where,
            fix="check the credentials in the environment",
        )
    if isinstance(error, (ImportError, ValueError)):
        return DataSourceError(
            f"this kind of address cannot be read: {_first_line(error)}",
            where=where,
            expected="https://, s3:// with the extra s3, or another kind whose fsspec package is installed",
            fix="check the address, or install the package for it",
        )
    return ServiceUnreachable(
        "the server of this address did not answer" + (f" but with {status}" if status else ""),
        where=where,
        fix="check the network; or download the file elsewhere and give its path",
    )


def _remote_files(store: Any, path: str, address: str) -> dict[str, str]:
    """List the data files at a path, which may be a folder or a pattern, with their labels."""
    if "*" in path:
        found = [name for name in store.glob(path) if is_data(name)]
    elif data_ending(path.split("?")[0]):
        found = [path]
    else:
        found = [name for name in store.ls(path, detail=False) if is_data(name)]
    if not found:
        raise DataSourceError(
            "there is no data file at this address",
            where=without_secrets(address),
            expected=f"a name ending in {KINDS}; a folder of such files, or a pattern with *",
            fix="name a data file, or the folder that has the files itself",
        )
    found = sorted(found)
    labels = file_labels([PurePosixPath(name.split("?")[0]) for name in found])
    return dict(zip(found, labels, strict=True))


def read_address(address: str, encoding: str = "") -> Iterator[Block]:
    """Download and read the files at an fsspec address one by one, in order of their names."""
    with _addressed(address) as (store, path), scratch_folder() as folder:
        for remote, label in _remote_files(store, path, address).items():
            local = folder / os.path.basename(label)
            size = store.info(remote).get("size")
            with (
                progress_bar(total=size, label=f"download {label}", unit="B") as bar,
                store.open(remote, "rb") as incoming,
                local.open("wb") as outgoing,
            ):
                while block := incoming.read(1 << 20):
                    outgoing.write(block)
                    bar.update(len(block))
            yield from read_file(local, label, encoding)
            local.unlink()


def address_version(address: str) -> str:
    """Fingerprint an address by the store's mark of the content, or by sha256 if it has none."""
    with _addressed(address) as (store, path):
        marks = []
        for remote, label in _remote_files(store, path, address).items():
            info = store.info(remote)
            mark = [f"{name}={info[name]}" for name in VERSION_FIELDS if info.get(name)]
            if not mark:
                with store.open(remote, "rb") as stream:
                    mark = [hashlib.file_digest(stream, "sha256").hexdigest()]
            marks.append(f"{label} {info.get('size')} {mark}")
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()
