"""Servers that work and servers that fail, each a process: what a user is told, and that all end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from schemas.config.evaluation import ServerConfig
from schemas.errors import ConfigError, ServiceUnreachable, SftFlowError
from tasks.evaluation import openai_client, server
from tasks.evaluation.openai_client import Reply
from tasks.evaluation.server import command_line, require_server, serve_model
from tests.support.processes import await_end, completions_server, is_running

pytestmark = [pytest.mark.unit, pytest.mark.loopback]

PATH = "/completions"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(server, "POLL_SECONDS", 0.02)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def configured(way: str, **settings: Any) -> ServerConfig:
    return ServerConfig(command=completions_server(way), **settings)


def ask(model: Path, config: ServerConfig, n_prompts: int = 3) -> dict[int, Reply]:
    """Serve the folder and ask for some completions of ten letters."""
    bodies = [{"prompt": f"prompt {number}", "max_tokens": 10} for number in range(n_prompts)]
    found: dict[int, Reply] = {}
    first = {**bodies[0], "max_tokens": 1}
    with serve_model((model, model), config, PATH, first) as (client, name):
        named = [{**body, "model": name} for body in bodies]
        client.ask_all(PATH, named, lambda place, reply: found.update({place: reply}))
    return found


def fail(model: Path, config: ServerConfig) -> SftFlowError:
    with pytest.raises(SftFlowError) as caught:
        ask(model, config)
    await_end(*started(model))
    return caught.value


def started(model: Path) -> list[int]:
    """Return the ids of the processes that the server's log names; it is kept after a failure."""
    [log] = (model.parent / "home").glob("evaluation-server-*.log")
    return [
        int(number)
        for number in re.findall(r"^(?:serving \S+|child) (\d+)$", log.read_text(), re.M)
    ]


@pytest.mark.parametrize("way", ["works", "loads", "fails at times"])
def test_every_prompt_is_answered(model: Path, way: str) -> None:
    found = ask(model, configured(way))
    assert found == {n: Reply("model: pro", "length", 8, 10) for n in range(3)}
    assert list((model.parent / "home").glob("*.log")) == []


def test_model_and_tokenizer_in_two_folders_are_served_as_one(model: Path) -> None:
    tokenizer = model.parent / "tokenizer"
    tokenizer.mkdir()
    for folder, name in ((tokenizer, "tokenizer.json"), (model, "tokenizer.json")):
        (folder / name).write_text(folder.name, encoding="utf-8")
    body = {"prompt": "p", "max_tokens": 1}
    with serve_model((model, tokenizer), configured("works"), PATH, body) as (_, name):
        served = {path.name: path.read_text(encoding="utf-8") for path in Path(name).iterdir()}
    assert served == {"config.json": "{}", "tokenizer.json": "tokenizer"}
    assert not Path(name).exists()


def test_server_that_dies_at_start_shows_the_end_of_its_log(model: Path) -> None:
    error = fail(model, configured("dies"))
    assert isinstance(error, ConfigError)
    assert "exit code 1" in error.got
    assert "no such option: --fast" in error.got
    assert error.where.endswith(".log")


def test_server_that_dies_later_is_an_infrastructure_error(model: Path) -> None:
    error = fail(model, configured("dies later"))
    assert isinstance(error, ServiceUnreachable)
    assert "exit code 7" in error.got


def test_server_that_is_killed_is_told_from_one_that_ends(model: Path) -> None:
    error = fail(model, configured("is killed later"))
    assert isinstance(error, ServiceUnreachable)
    assert "killed by signal 9" in error.got
    assert "memory" in error.fix


def test_server_that_is_never_ready_is_stopped(model: Path) -> None:
    error = fail(model, configured("never listens", start_seconds=2.0))
    assert isinstance(error, ServiceUnreachable)
    assert error.expected == "an answer within 2 s"
    assert "serving" in error.got
    assert "start_seconds" in error.fix


def test_request_that_never_returns_ends_at_its_time_limit(model: Path) -> None:
    error = fail(model, configured("hangs", timeout_seconds=0.2))
    assert isinstance(error, ServiceUnreachable)
    assert "timeout_seconds" in error.fix


@pytest.mark.parametrize(
    ("way", "kind", "got"),
    [
        ("always fails", ServiceUnreachable, "HTTP 500: odd"),
        ("writes a page", ServiceUnreachable, "no completion: <html>welcome"),
        ("lacks the model", ConfigError, "HTTP 404"),
    ],
)
def test_server_that_answers_otherwise(
    model: Path, way: str, kind: type[SftFlowError], got: str
) -> None:
    error = fail(model, configured(way))
    assert isinstance(error, kind)
    assert got in error.got
    assert "evaluation.server" in error.where


@pytest.mark.parametrize("way", ["does not stop", "leaves a child"])
def test_server_is_stopped_with_all_its_processes(
    model: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.engine.local_server.STOP_SECONDS", 0.5)
    body = {"prompt": "p", "max_tokens": 1}

    def serve_until_ctrl_c() -> None:
        with serve_model((model, model), configured(way), PATH, body):
            processes.extend(started(model))
            assert [is_running(number) for number in processes] == [True, True]
            raise KeyboardInterrupt

    processes: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        serve_until_ctrl_c()
    await_end(*processes)


def test_program_that_does_not_exist_is_found_before_any_work(model: Path) -> None:
    config = ServerConfig(command="/opt/nothing/bin/vllm serve {model} --port {port}")
    for check in (lambda: require_server(config), lambda: ask(model, config)):
        with pytest.raises(ConfigError, match="/opt/nothing/bin/vllm, does not exist") as caught:
            check()
        assert caught.value.where == "evaluation.server.command"
    assert not (model.parent / "home").exists()


def test_program_is_found_on_the_path() -> None:
    assert require_server(ServerConfig(command="env python {model} {port}")).endswith("/env")
    assert require_server(None) == ""


def test_command_line_fills_in_words_and_leaves_braces_alone() -> None:
    config = ServerConfig(command="""vllm serve {model} --port={port} --x '{"a": {}}'""")
    assert command_line(config, Path("/a b/m"), 81) == [
        "vllm", "serve", "/a b/m", "--port=81", "--x", '{"a": {}}',
    ]  # fmt: skip
