"""Entries of a model's folder that are none of its files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from schemas.errors import ModelSourceError
from tasks.models.entries import refuse_other_entries


def test_files_folders_and_links_among_them_are_fine(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "config.json").touch()
    (tmp_path / "same.json").symlink_to("more/config.json")
    (tmp_path / "broken.json").symlink_to("missing")
    refuse_other_entries(tmp_path)
    os.mkfifo(tmp_path / "more" / "pipe")
    with pytest.raises(ModelSourceError, match="pipe"):
        refuse_other_entries(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_entry_that_is_no_file_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is at most 107 characters
    path = tmp_path / "weights"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("weights")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ModelSourceError, match=r"no file|outside its folder") as caught:
        refuse_other_entries(tmp_path)
    assert caught.value.where == str(path)
