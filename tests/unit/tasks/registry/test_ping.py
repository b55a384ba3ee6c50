from __future__ import annotations

import socket
from pathlib import Path

import pytest

from schemas.errors import ConfigError, RegistryForbidden, ServiceUnreachable
from tasks.registry.ping import ANY_REQUEST, ping
from tests.support.http_faults import recording_proxy, refusing_server


@pytest.mark.parametrize("uri", ["http://ada:hunter#2@host", "http://[ada:hunter@host"])
def test_address_that_cannot_be_read_shows_no_part_of_the_password(uri: str) -> None:
    with pytest.raises(ConfigError, match="%-escapes") as caught:
        ping(uri)
    assert "hunter" not in str(caught.value)
    assert caught.value.__suppress_context__


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
@pytest.mark.parametrize("status", [200, 404, 500])
def test_ping_reaches_a_server_that_answers(status: int) -> None:
    with refusing_server(lambda *_: (status, "")) as place:
        assert ping(f"http://{place}") is None


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("status", "body", "fix"),
    [
        (401, "You are not authenticated.", "set MLFLOW_TRACKING_USERNAME"),
        (403, "", "set MLFLOW_TRACKING_USERNAME"),
        (403, "Invalid Host header - possible DNS rebinding", "with `--allowed-hosts`"),
        (407, "<html>\nProxy", "set MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_ping_names_a_server_that_does_not_let_us_in(status: int, body: str, fix: str) -> None:
    def rule(_: str, path: str) -> tuple[int, str]:
        return (200, "OK") if path == "/health" else (status, body)

    with refusing_server(rule) as place, pytest.raises(RegistryForbidden) as caught:
        ping(f"http://ada:hunter2@{place}")
    assert caught.value.where == f"http://{place}"
    assert caught.value.got.startswith(f"status {status} ")
    assert caught.value.got.endswith(body.partition("\n")[0])
    assert fix in caught.value.fix
    assert "hunter2" not in str(caught.value)


@pytest.mark.loopback
def test_ping_reaches_a_server_behind_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with (
        refusing_server(lambda *_: (200, "OK")) as place,
        recording_proxy(f"http://{place}") as (proxy, asked),
    ):
        monkeypatch.setenv("http_proxy", proxy)
        assert ping("http://mlflow.internal") is None
    assert asked == [f"GET http://mlflow.internal{ANY_REQUEST}?max_results=1"]
    with recording_proxy() as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(ServiceUnreachable, match="cannot be reached") as caught:
            ping("http://mlflow.internal")
    assert "502" in caught.value.got


def test_ping_leaves_a_file_based_store_alone(tmp_path: Path) -> None:
    assert ping(f"sqlite:///{tmp_path}/mlflow.db") is None
