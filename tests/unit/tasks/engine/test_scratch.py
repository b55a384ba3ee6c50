"""Temporary folders, also of processes that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.engine.scratch import (
    LOCK,
    PREFIX,
    libraries_in_scratch,
    remove_abandoned,
    scratch_folder,
)

CHILD = """
import time
from tasks.engine.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "weights").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_folder_is_there_for_the_block_only(temporary: Path) -> None:
    with pytest.raises(FileExistsError), scratch_folder() as folder:  # noqa: PT012
        assert folder.parent.parent == temporary
        assert not list(folder.iterdir())
        (folder / "part").mkdir()
        (folder / "part").mkdir()
    assert not list(temporary.iterdir())


def test_folder_of_a_living_process_stays_and_that_of_a_killed_one_goes(temporary: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        folder = Path(child.stdout.readline().strip())
        remove_abandoned()
        assert (folder / "weights").is_file()
        child.kill()
        child.wait()
        assert (folder / "weights").is_file()
        with scratch_folder():
            assert not folder.parent.exists()
    assert not list(temporary.iterdir())


def test_only_abandoned_folders_of_ours_are_removed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (f"{PREFIX}venv", f"{PREFIX}abandoned", "sft-flow-others"):
        (temporary / name).mkdir()
    for name in (f"{PREFIX}abandoned", "sft-flow-others"):
        (temporary / name / LOCK).touch()
    (temporary / f"{PREFIX}venv" / ".lock").touch()  # as uv makes it
    (temporary / f"{PREFIX}file").touch()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "sft-flow-others")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        remove_abandoned()
    assert (temporary / f"{PREFIX}abandoned").is_dir()
    remove_abandoned()
    left = {path.name for path in temporary.iterdir()}
    assert left == {f"{PREFIX}venv", "sft-flow-others", f"{PREFIX}file", f"{PREFIX}link"}


def test_file_system_without_locks_does(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with scratch_folder() as folder:
        assert folder.is_dir()
    assert not list(temporary.iterdir())


def test_nothing_fails_without_a_folder_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n_asked = 0

    def refuse() -> str:
        nonlocal n_asked
        n_asked += 1
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    remove_abandoned()
    assert n_asked == 1


def test_libraries_write_into_a_scratch_folder_for_the_block_only(temporary: Path) -> None:
    with libraries_in_scratch():
        inner = Path(tempfile.mkdtemp())
        assert inner.parent.parent.parent == temporary
    assert not inner.exists()
    assert Path(tempfile.gettempdir()) == temporary
    assert not list(temporary.iterdir())
