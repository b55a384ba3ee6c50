"""What must fail in the first second does, with a way out."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from schemas.config.evaluation import ServerConfig
from schemas.errors import ConfigError, ServiceUnreachable, WorkDirectoryError
from tasks.check_environment import MIN_FREE_VARIABLE, check_environment, check_work_directory
from tasks.registry.store import ping


def test_work_directory_is_made(tmp_path: Path) -> None:
    check_work_directory(tmp_path / "deep" / "home")
    assert list((tmp_path / "deep" / "home").iterdir()) == []


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


@pytest.mark.loopback
def test_ping_names_the_server_and_hides_the_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServiceUnreachable) as caught:
        ping(f"http://user:secret@127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in caught.value.where
    assert "secret" not in str(caught.value)
    assert caught.value.is_retryable


@pytest.mark.loopback
def test_ping_reaches_a_listening_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ping(f"http://127.0.0.1:{server.getsockname()[1]}") is None


def test_ping_leaves_a_file_based_store_alone(tmp_path: Path) -> None:
    assert ping(f"sqlite:///{tmp_path}/mlflow.db") is None


def test_program_of_the_evaluation_server_is_looked_for(work_folder: Path) -> None:
    server = ServerConfig(command="/opt/no/vllm serve {model} --port {port}")
    with pytest.raises(ConfigError, match="/opt/no/vllm, does not exist"):
        check_environment.fn(server)
