"""Data files opened for reading: taken out of an archive, unpacked and decoded on the way."""

from __future__ import annotations

import codecs
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from schemas.errors import DataSourceError

CHUNK_BYTES = 1 << 20
ARCHIVE_FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
"""What `zipfile` raises for archives that are damaged."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file on this machine."""

    path: Path
    name: str
    """In messages and in the output."""
    codec: str = ""
    """gzip, zstd, or empty for plain."""
    member: str = ""
    """Name within the ZIP archive at `path`."""
    encoding: str = ""
    """Of its text; empty for UTF-8."""


@contextmanager
def open_data(file: DataFile) -> Iterator[Any]:
    """Open a data file, unpacked and decoded to UTF-8 on the way in constant memory.

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
        with ExitStack() as stack:
            raw: Any = stack.enter_context(file.path.open("rb"))
            if file.member:
                archive = stack.enter_context(zipfile.ZipFile(raw))
                raw = stack.enter_context(archive.open(file.member))
            if file.codec:
                import pyarrow

                packed = pyarrow.PythonFile(raw, mode="r")
                raw = stack.enter_context(pyarrow.CompressedInputStream(packed, file.codec))
            if file.encoding:
                raw = io.BufferedReader(_Decoded(raw, file.encoding), CHUNK_BYTES)
            yield raw
    except OSError as error:
        if (file.codec or file.member) and error.errno is None:
            raise _not_unpacked(file, error) from error
        if error.errno is None:
            raise
        raise DataSourceError(
            f"{file.name} cannot be read: {error.strerror or error}",
            where=str(file.path),
            fix="check that the file still exists, and its permissions",
        ) from error
    except ARCHIVE_FAULTS as error:
        if not file.member:
            raise
        raise _not_unpacked(file, error) from error


def _not_unpacked(file: DataFile, error: Exception) -> DataSourceError:
    return DataSourceError(
        f"{file.name} cannot be unpacked: {error}",
        where=str(file.path),
        expected=f"a complete {file.codec or 'ZIP'} file",
        fix="write or copy the file again, it may have been cut off or damaged; if it is not "
        "packed at all, take the ending off its name",
    )


class _Decoded(io.RawIOBase):
    """Text of another encoding as UTF-8; bytes that it does not have become U+FFFD."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._waiting = memoryview(b"")
        self._is_over = False

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with as much as there is; 0 at the end."""
        while not self._waiting and not self._is_over:
            chunk = self._stream.read(CHUNK_BYTES)
            self._is_over = not chunk
            text = self._decoder.decode(chunk, final=self._is_over)
            self._waiting = memoryview(text.encode("utf-8", errors="replace"))
        n_bytes = min(len(buffer), len(self._waiting))
        buffer[:n_bytes] = self._waiting[:n_bytes]
        self._waiting = self._waiting[n_bytes:]
        return n_bytes
