from __future__ import annotations

import os
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.errors import ConfigError, WorkDirectoryError
from tasks.engine.full_disk import name_full_disk, naming_full_disks

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files on a disk that is fuller than that of the work directory."""
    folder = tmp_path / "small"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: Usage(0, 0, 0 if Path(path) == folder else 2**30)
    )
    return folder


def test_a_full_disk_is_named_with_its_folder(temporary: Path, work_folder: Path) -> None:
    with (
        pytest.raises(WorkDirectoryError, match="the disk is full") as caught,
        naming_full_disks(),
        Path("/dev/full").open("wb", buffering=0) as stream,
    ):
        stream.write(b"x")
    assert caught.value.where == f"{temporary} (TMPDIR)"
    assert "set TMPDIR" in caught.value.fix
    assert caught.value.got == "1.00 GiB free in SFT_HOME, 0.00 GiB free in TMPDIR"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        ValueError("I/O error: No space left on device (os error 28)"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]),
    ],
)
def test_messages_of_libraries_are_known(error: Exception, temporary: Path) -> None:
    assert name_full_disk(error) is not None


def test_the_folder_that_the_error_names_counts(temporary: Path, work_folder: Path) -> None:
    error = OSError(28, "No space left on device", str(work_folder / "stages"))
    named = name_full_disk(error)
    assert named is not None
    assert named.where == f"{work_folder} (SFT_HOME)"


def test_disk_with_space_but_without_files_is_told(
    temporary: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(f_files=10, f_favail=0)
    free = SimpleNamespace(f_files=10, f_favail=1)
    monkeypatch.setattr(os, "statvfs", lambda path: free if path == temporary else full)
    named = name_full_disk(OSError(28, "No space left on device", str(work_folder)))
    assert named is not None
    assert named.got == "1.00 GiB free in SFT_HOME but no more files, 0.00 GiB free in TMPDIR"


def test_other_errors_stay(temporary: Path) -> None:
    with pytest.raises(ConfigError), naming_full_disks():
        raise ConfigError("wrong")
    with pytest.raises(OSError, match="I/O error"), naming_full_disks():
        raise OSError(5, "I/O error")
