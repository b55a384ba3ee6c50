from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import WorkDirectoryError
from tasks.engine.files import modified_at, open_atomic, write_atomic, write_new_files


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
    assert caught.value.where == str(tmp_path / "a")


def test_new_files_are_written_into_a_folder_made_for_them(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "é b"
    write_new_files(folder, {"a.yaml": "ä\n", ".b": "b"})
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert found == {"a.yaml": "ä\n", ".b": "b"}
    write_new_files(folder, {"c": "c"})
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("kind", ["file", "dangling link", "folder"])
def test_none_of_the_new_files_is_written_if_one_exists(tmp_path: Path, kind: str) -> None:
    taken = tmp_path / "b"
    if kind == "file":
        taken.write_text("mine")
    elif kind == "folder":
        taken.mkdir()
    else:
        taken.symlink_to("nowhere")
    with pytest.raises(WorkDirectoryError, match="b would be overwritten"):
        write_new_files(tmp_path, {"a": "a", "b": "b"})
    assert list(tmp_path.iterdir()) == [taken]


def test_error_names_folder_and_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    with pytest.raises(WorkDirectoryError) as caught:
        write_new_files(tmp_path, {"a": "", "b": "", "c": ""})
    assert caught.value.what == "a and b would be overwritten; nothing was written"
    assert caught.value.where == str(tmp_path)
    assert caught.value.expected == "a folder without a, b, c"
    assert caught.value.got == "a, b"
    with pytest.raises(WorkDirectoryError) as caught:
        write_new_files(tmp_path / "a", {"x": ""})
    assert caught.value.what == f"{tmp_path / 'a'} is not a folder"
    assert caught.value.where == str(tmp_path / "a")
    assert caught.value.expected == "a folder, or a name that is free"
    assert caught.value.got == "a file"


def test_time_of_a_file_is_when_it_was_written_and_now_where_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", (5.0, 7.0))
    assert modified_at(tmp_path / "a") == 7.0
    before = time.time()
    assert before <= modified_at(tmp_path / "b") <= time.time()


@pytest.mark.parametrize("n_written", [0, 1])
def test_new_files_and_folders_are_taken_back_if_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_written: int
) -> None:
    real = Path.open
    opened: list[Path] = []

    def fill_up(path: Path, mode: str) -> Any:
        if mode == "xb":
            if len(opened) == n_written:
                raise OSError(28, "No space left on device")
            opened.append(path)
        return real(path, mode)

    monkeypatch.setattr(Path, "open", fill_up)
    (tmp_path / "kept").mkdir()
    with pytest.raises(WorkDirectoryError, match="No space left"):
        write_new_files(tmp_path / "kept" / "deep" / "er", {"a": "a", "b": "b"})
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


@pytest.mark.parametrize("name", ["a", "a/b", "/proc/self/new"])
def test_folder_that_cannot_take_new_files_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(WorkDirectoryError) as caught:
        write_new_files(tmp_path / name, {"x": "x"})
    assert caught.value.fix.startswith("name a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
