from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.config.file import load_config
from schemas.errors import ConfigError
from schemas.small_files import MOST_BYTES, read_small_bytes, read_small_text

READERS = [read_small_text, read_small_bytes]


def test_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("\ufeffé\r\n".encode())
    assert read_small_text(path, "utf-8-sig") == "é\n"
    assert read_small_bytes(path) == "\ufeffé\r\n".encode()


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_small_file_is_refused_unread(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.touch()
    os.truncate(large, MOST_BYTES + 1)
    for path, words in ((pipe, "a pipe"), (Path("/dev/zero"), "a device"), (large, "16 MiB")):
        with pytest.raises(OSError, match=words):
            read(path)
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


@pytest.mark.parametrize("ending", ["yaml", "toml"])
def test_configuration_that_is_a_device_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"config.{ending}"
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="cannot be read") as found:
        load_config(path)
    assert found.value.got == "a pipe, a socket or a device, not a file"
