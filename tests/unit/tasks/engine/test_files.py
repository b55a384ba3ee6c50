from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.errors import WorkDirectoryError
from tasks.engine.files import open_atomic, write_atomic


def test_write_atomic_leaves_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_is_complete_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with open_atomic(path) as stream:
        stream.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"

    def fail() -> None:
        with open_atomic(path) as stream:
            stream.write(b"second")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]
    with open_atomic(None) as nothing:
        assert nothing is None


def test_file_that_cannot_be_written_is_a_fault_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(WorkDirectoryError) as caught, open_atomic(tmp_path / "a" / "b.txt"):
        pass
    assert caught.value.fix == "name a folder you may write to"
