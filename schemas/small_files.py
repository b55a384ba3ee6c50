"""Files that a person names and that are read whole: settings, chat templates, profiles."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 16 << 20


def read_small_text(path: Path, encoding: str = "utf-8") -> str:
    """Read a text file whole.

    Args:
        path: The file.
        encoding: Its encoding.

    Returns:
        The text, with line feeds as line ends.

    Raises:
        OSError: It cannot be read, is a pipe or a device, which may never end, or is larger than 16 MiB.
        UnicodeDecodeError: It is not text in this encoding.
    """
    _require_small(path)
    return path.read_text(encoding=encoding)


def read_small_bytes(path: Path) -> bytes:
    """Read a file whole.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        OSError: As for `read_small_text`.
    """
    _require_small(path)
    return path.read_bytes()


def _require_small(path: Path) -> None:
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "a pipe, a socket or a device, not a file", str(path))
    if found.st_size > MOST_BYTES:
        size = f"{found.st_size:,} bytes, more than {MOST_BYTES >> 20} MiB"
        raise OSError(errno.EFBIG, size, str(path))
