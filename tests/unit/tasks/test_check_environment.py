"""What must fail in the first second does, with a way out."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from schemas.config.evaluation import ServerConfig
from schemas.config.registry import RegistryConfig
from schemas.errors import ConfigError, WorkDirectoryError
from tasks.check_environment import (
    MIN_FREE_TEMPORARY_BYTES,
    MIN_FREE_VARIABLE,
    check_environment,
    check_registry,
    check_temporary_folder,
    check_work_directory,
)
from tasks.engine.stage import PLAN, Plan

Usage = namedtuple("Usage", ["total", "used", "free"])


def test_work_directory_is_made(tmp_path: Path) -> None:
    check_work_directory(tmp_path / "deep" / "home")
    assert list((tmp_path / "deep" / "home").iterdir()) == []


@pytest.mark.parametrize("name", ["what?", "a%20b"])
def test_path_that_no_address_of_sqlite_can_have_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SFT_HOME", str(tmp_path / name))
    with pytest.raises(WorkDirectoryError, match="cannot be in the address"):
        check_work_directory(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "100% é #1"))
    assert check_work_directory(tmp_path / "100% é #1") is None


def test_work_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WorkDirectoryError, match="cannot be written") as caught:
        check_work_directory(tmp_path / "file" / "home")
    assert "SFT_HOME" in caught.value.fix
    assert caught.value.exit_code == 2


def test_work_directory_without_space_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIN_FREE_VARIABLE, str(2**60))
    with pytest.raises(WorkDirectoryError, match="nearly full"):
        check_work_directory(tmp_path)


def test_number_of_bytes_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIN_FREE_VARIABLE, "2GB")
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        check_work_directory(tmp_path)
    assert caught.value.where == MIN_FREE_VARIABLE
    monkeypatch.setenv(MIN_FREE_VARIABLE, "")
    assert check_work_directory(tmp_path) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_disk_or_quota_that_is_full_is_not_taken_for_permissions(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(
        WorkDirectoryError, match="the disk of the work directory is full"
    ) as caught:
        check_work_directory(tmp_path)
    assert caught.value.got == os.strerror(number)
    assert "permissions" not in caught.value.fix


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_network_disk_without_locks_is_named(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, call, refuse)
    with pytest.raises(WorkDirectoryError, match="cannot be locked") as caught:
        check_work_directory(tmp_path)
    assert caught.value.got == os.strerror(number)
    assert "SFT_HOME" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/tmp", "tmp"])
def test_temporary_folder_is_checked_like_the_work_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    monkeypatch.setenv(MIN_FREE_VARIABLE, str(2**60))
    with pytest.raises(WorkDirectoryError) as caught:
        check_temporary_folder()
    is_full = name == "tmp"
    assert ("nearly full" if is_full else "cannot be written") in caught.value.what
    assert "TMPDIR" in caught.value.fix


def test_without_a_temporary_folder_its_variable_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/tmp"])
    with pytest.raises(WorkDirectoryError, match="no folder for temporary files") as caught:
        check_temporary_folder()
    assert "TMPDIR" in caught.value.fix


def test_space_for_temporary_files_is_that_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, MIN_FREE_TEMPORARY_BYTES))
    assert check_temporary_folder() == tmp_path
    with pytest.raises(WorkDirectoryError, match="the work directory is nearly full"):
        check_work_directory(tmp_path)


def test_program_of_the_evaluation_server_is_looked_for(work_folder: Path) -> None:
    server = ServerConfig(command="/opt/no/vllm serve {model} --port {port}")
    with pytest.raises(ConfigError, match="/opt/no/vllm, does not exist"):
        check_environment.fn(server)


def test_registry_is_not_made_to_be_checked(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    check_registry.fn(RegistryConfig())
    assert not work_folder.exists()


def test_plan_checks_nothing(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    token = PLAN.set(Plan(refresh=frozenset()))
    try:
        check_environment(ServerConfig(command="/opt/no/vllm serve {model} --port {port}"))
        check_registry(RegistryConfig())
    finally:
        PLAN.reset(token)
    assert not work_folder.exists()
