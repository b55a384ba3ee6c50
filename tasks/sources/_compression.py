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
MOST_BYTES = 1 << 30
"""Of content that any file may have."""
MOST_TIMES = 1000
"""How many times its size the content of a larger file may have; deflate reaches no more, and a table
with a system prompt of 10,000 characters in every row about 150."""
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
        DataSourceError: The file cannot be opened, read or unpacked, or unpacks to too much.
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
                unpacked = stack.enter_context(pyarrow.CompressedInputStream(packed, file.codec))
                raw = io.BufferedReader(_Limited(unpacked, file), CHUNK_BYTES)
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


def check_size(n_bytes: int, path: Path, name: str) -> None:
    """Refuse what a file unpacks to, or its rows, once it is more than data are.

    Args:
        n_bytes: Read so far.
        path: Of the file.
        name: What messages call it.

    Raises:
        DataSourceError: It is more than 1 GiB and 1,000 times the size of the file.
    """
    if n_bytes > MOST_BYTES and n_bytes > MOST_TIMES * path.stat().st_size:
        raise DataSourceError(
            f"{name} unpacks to more than is expected of data",
            where=name,
            expected=f"rows of at most {MOST_TIMES:,} times the size of the file, or of 1 GiB",
            got="more",
            fix="write the rows as .jsonl if you trust them, or as several files",
        )


class _Limited(io.RawIOBase):
    """A stream that is unpacked, up to the size of data: also of blanks, or of a table that is copied first."""

    def __init__(self, stream: Any, file: DataFile) -> None:
        self._stream = stream
        self._file = file
        self._n_bytes = 0

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with as much as there is; 0 at the end."""
        n_bytes = int(self._stream.readinto(buffer))
        self._n_bytes += n_bytes
        check_size(self._n_bytes, self._file.path, self._file.name)
        return n_bytes


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
