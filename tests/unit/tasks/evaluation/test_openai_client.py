"""The client of OpenAI-compatible services, against a service on this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from schemas.errors import ConfigError, ServiceUnreachable
from tasks.evaluation import openai_client
from tasks.evaluation.openai_client import Reply, Service, open_client
from tests.support.chat_service import ChatService, chat_service

pytestmark = [pytest.mark.unit, pytest.mark.loopback]

PATH = "/chat/completions"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatService]:
    monkeypatch.setattr(openai_client, "BACKOFF_SECONDS", 0.001)
    with chat_service() as found:
        yield found


def known(url: str, timeout_seconds: float = 30.0) -> Service:
    return Service("the helper", "a.section", url, timeout_seconds, fix="start it")


def ask(url: str, text: str = "hello", timeout_seconds: float = 30.0) -> Reply:
    with open_client(known(url, timeout_seconds)) as client:
        return client.ask(PATH, body(text))


def body(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def test_ask_all_gives_each_request_its_reply(service: ChatService) -> None:
    met, both = threading.Barrier(2, timeout=30), ("3", "4")

    def echo(text: str) -> tuple[int, str]:
        if text in both:
            met.wait()  # breaks unless both are asked at the same time
        return 200, text.upper() * 2

    service.reply = echo
    found: dict[int, str] = {}
    with open_client(known(service.url)) as client:
        bodies = [body(str(number)) for number in range(20)]
        client.ask_all(PATH, bodies, lambda place, reply: found.update({place: reply.text}))
    assert found == {number: str(number) * 2 for number in range(20)}


def test_ask_all_of_nothing_asks_nothing(service: ChatService) -> None:
    with open_client(known(service.url)) as client:
        client.ask_all(PATH, [], lambda *_: pytest.fail("nothing was asked"))
    assert service.asked == []


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_ask_tries_again_where_that_can_help(service: ChatService, status: int) -> None:
    service.reply = lambda _: (200, "yes") if len(service.asked) > 2 else (status, "busy")
    assert ask(service.url).text == "yes"
    assert len(service.asked) == 3


def test_ask_waits_as_long_as_the_service_says(
    service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    service.headers = {"Retry-After": "7"}
    service.reply = lambda _: (200, "yes") if len(service.asked) > 1 else (429, "")
    assert ask(service.url).text == "yes"
    assert waited == [7]
    service.asked.clear()
    service.headers = {"Retry-After": "86400"}
    ask(service.url)
    assert waited == [7, openai_client.LONGEST_RETRY_AFTER_SECONDS]


def test_ask_gives_up_on_a_service_that_stays_broken(service: ChatService) -> None:
    service.reply = lambda _: (500, "odd")
    with pytest.raises(ServiceUnreachable, match="the helper does not answer") as caught:
        ask(service.url)
    assert "HTTP 500" in caught.value.got
    assert caught.value.fix == "start it"
    assert len(service.asked) == 1 + openai_client.RETRIES


def test_ask_gives_up_on_a_service_that_is_gone_or_silent(service: ChatService) -> None:
    with pytest.raises(ServiceUnreachable, match="ConnectionError"):
        ask("http://127.0.0.1:9/v1", timeout_seconds=1)
    service.reply = service.hang
    with pytest.raises(ServiceUnreachable, match="ReadTimeout"):
        ask(service.url, timeout_seconds=0.1)
    assert len(service.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_rejected_request_is_a_configuration_error(service: ChatService, status: int) -> None:
    service.reply = lambda _: (status, "not you")
    with pytest.raises(ConfigError, match=f"HTTP {status}") as caught:
        ask(service.url)
    assert "not you" in caught.value.got
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "document", ["<html>", "[]", "{}", '{"choices": []}', '{"choices": [{"index": 0}]}', "null"]
)
def test_reply_that_is_no_completion_cannot_be_read(service: ChatService, document: str) -> None:
    service.document = document
    with pytest.raises(ServiceUnreachable, match="no completion") as caught:
        ask(service.url)
    assert document in caught.value.got


def test_first_error_ends_all_while_others_hang(service: ChatService) -> None:
    service.reply = lambda text: (401, "") if text == "2" else service.hang(text)
    with open_client(known(service.url)) as client, pytest.raises(ConfigError):
        client.ask_all(PATH, [body(str(number)) for number in range(50)], lambda *_: None)
    assert not service.released.is_set()
    assert len(service.asked) < 20


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://localhost:1/v1", True),
        ("https://judge.example/v1", False),
        ("https://10.0.0.7/v1", False),
    ],
)
def test_only_other_machines_are_asked_through_a_proxy(url: str, is_local: bool) -> None:
    assert known(url).is_local is is_local
    with open_client(known(url)) as client:
        assert client._session.trust_env is not is_local


def test_this_machine_is_asked_without_a_proxy(
    service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask(service.url).text == "tie"


PROGRAM = """
import sys
from tasks.evaluation.openai_client import Service, open_client

bodies = [{"messages": [{"role": "user", "content": str(n)}]} for n in range(50)]
with open_client(Service("the helper", "s", sys.argv[1], 600.0)) as client:
    client.ask_all("/chat/completions", bodies, lambda *_: None)
"""


def test_ctrl_c_during_many_requests_ends_the_process(service: ChatService) -> None:
    all_asked = threading.Event()

    def hang(text: str) -> tuple[int, str]:
        if len(service.asked) == openai_client.PARALLEL_REQUESTS:
            all_asked.set()
        return service.hang(text)

    service.reply = hang
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, service.url], stderr=subprocess.PIPE, text=True
    ) as process:
        assert all_asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert not service.released.is_set()
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
