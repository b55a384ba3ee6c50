"""Small disks, for tests that fill them, and folders where another user can read them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import parts


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Path]:
    """Mount a disk in memory; skips the test where this is not allowed.

    Args:
        folder: Where; made when missing.
        n_bytes: Its size.

    Yields:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs"):
        yield folder


@contextmanager
def shown_to_all(folder: Path) -> Iterator[Path]:
    """Mount a folder, for reading, where every user may enter; skips the test where this is not allowed.

    Args:
        folder: The folder, whose own place may belong to root alone.

    Yields:
        Another path of it.
    """
    place = Path(tempfile.mkdtemp(prefix="sft-flow-"))
    place.chmod(0o755)
    try:
        with _mounted(place, "--bind", "-o", "ro", str(folder)):
            yield place
    finally:
        place.rmdir()  # which fails where something is still mounted


@contextmanager
def _mounted(place: Path, *arguments: str) -> Iterator[None]:
    parts.ROOT.require()
    command = ["mount", *arguments, str(place)]
    is_mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    parts.Part("the right to mount", f"{parts.OPTIONAL}CAP_SYS_ADMIN", is_mounted).require()
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
