"""Data files opened for reading, with gzip and Zstandard unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import DataSourceError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Ending to what Arrow calls the codec."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file on this machine."""

    path: Path
    name: str
    """In messages and in the output."""
    codec: str = ""
    """gzip, zstd, or empty for plain."""


@contextmanager
def open_data(file: DataFile) -> Iterator[Any]:
    """Open a data file, unpacked on the way in constant memory.

    Arrow's reader serves both codecs: it goes on after the end of a member, and notices where a
    file was cut off, which `zstandard` passes over in silence.

    Args:
        file: The file.

    Yields:
        A binary stream.

    Raises:
        DataSourceError: The file cannot be opened, read or unpacked.
    """
    try:
        with file.path.open("rb") as raw:
            if not file.codec:
                yield raw
                return
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.PythonFile(raw), file.codec) as stream:
                yield stream
    except OSError as error:
        if file.codec and error.errno is None:
            raise DataSourceError(
                f"{file.name} cannot be unpacked: {error}",
                where=str(file.path),
                expected=f"a complete {file.codec} file",
                fix="write or copy the file again; it may have been cut off or damaged",
            ) from error
        if error.errno is None:
            raise
        raise DataSourceError(
            f"{file.name} cannot be read: {error.strerror or error}",
            where=str(file.path),
            fix="check that the file still exists, and its permissions",
        ) from error
