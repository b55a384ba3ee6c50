"""Serve one model with the configured command: start it, wait for its first answer, stop it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from schemas.config.evaluation import ServerConfig
from schemas.errors import ConfigError, ServiceUnreachable, SftFlowError
from tasks.engine.home import work_directory
from tasks.engine.local_server import free_port, local_url, start_guarded, stop_guarded
from tasks.engine.scratch import scratch_folder
from tasks.evaluation.openai_client import Client, Service, open_client

SETTING = "evaluation.server"
NOT_READY = (408, 425, 429, 502, 503, 504)
"""What servers say while they load the model."""
POLL_SECONDS = 0.25
END_SECONDS = 1.0
"""A server whose connections break has ended, if it is gone by then."""
TAIL_LINES = 15
SIGNALLED = 128
"""Higher exit codes mean a signal, as in a shell."""


def require_server(server: ServerConfig | None) -> str:
    """Check that the program of the server's command can be found, before any work is done.

    Args:
        server: The server; None for no server.

    Returns:
        Path of the program; empty for no server.

    Raises:
        ConfigError: There is no such program.
    """
    if server is None:
        return ""
    program = shlex.split(server.command)[0]
    found = shutil.which(program)
    if found:
        return found
    raise ConfigError(
        f"the program of the evaluation server, {program}, does not exist",
        where=f"{SETTING}.command",
        expected="a program on the PATH, or the path of one",
        got=program,
        fix="install it in an environment of its own and give the path, such as /opt/vllm/bin/vllm",
    )


@contextmanager
def serve_model(
    folders: tuple[Path, Path], server: ServerConfig, path: str, body: Mapping[str, Any]
) -> Iterator[tuple[Client, str]]:
    """Serve a model until the block ends, whatever ends it.

    Args:
        folders: Those of model and tokenizer, which may be the same.
        server: The command and its limits.
        path: What it will be asked, such as /completions.
        body: A request to begin with, without `model`; the server is ready when it answers.

    Yields:
        A client of the server, and the name of the model in requests.

    Raises:
        ConfigError: The server cannot start, or rejects a request.
        ServiceUnreachable: It does not answer, or was killed.
    """
    require_server(server)
    port = free_port()
    log = work_directory() / f"evaluation-server-{port}.log"
    service = Service(
        name="the evaluation server",
        setting=SETTING,
        url=f"{local_url(port)}/v1",
        timeout_seconds=server.timeout_seconds,
        parallel_requests=server.parallel_requests,
        fix=f"see {log}; correct {SETTING}.command, model_name, endpoint or timeout_seconds",
    )
    with scratch_folder() as scratch:
        model = _one_folder(folders, scratch)
        name = server.model_name.replace("{model}", str(model))
        process = start_guarded(command_line(server, model, port), log, os.environ)
        try:
            _await_answer(process, f"{service.url}{path}", {**body, "model": name}, server, log)
            with open_client(service) as client:
                yield client, name
        except ServiceUnreachable as error:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(END_SECONDS)
                raise _ended(code, log, was_ready=True) from error
            raise
        finally:
            stop_guarded(process)
    log.unlink(missing_ok=True)  # of use only when something failed


def command_line(server: ServerConfig, model: Path, port: int) -> list[str]:
    """Split the command into words and fill in the folder of the model and the port."""
    return [
        word.replace("{model}", str(model)).replace("{port}", str(port))
        for word in shlex.split(server.command)
    ]


def _one_folder(folders: tuple[Path, Path], scratch: Path) -> Path:
    """Return one folder with model and tokenizer, made of links where they are apart."""
    model, tokenizer = (folder.absolute() for folder in folders)
    if model == tokenizer:
        return model
    for folder in (tokenizer, model):  # a tokenizer next to the model is not the one that is used
        for path in folder.iterdir():
            with suppress(FileExistsError):
                (scratch / path.name).symlink_to(path)
    return scratch


def _await_answer(
    process: subprocess.Popen[bytes],
    address: str,
    body: Mapping[str, Any],
    server: ServerConfig,
    log: Path,
) -> None:
    """Ask until there is an answer, be it an error, which the first real request reports."""
    import requests

    deadline = time.monotonic() + server.start_seconds
    with requests.Session() as session:
        session.trust_env = False  # no proxy
        while (left := deadline - time.monotonic()) > 0:
            if process.poll() is not None:
                raise _ended(process.returncode, log, was_ready=False)
            with suppress(requests.RequestException):
                answer = session.post(address, json=body, timeout=left)
                if answer.status_code not in NOT_READY:
                    return
            time.sleep(POLL_SECONDS)
    raise ServiceUnreachable(
        "the evaluation server did not become ready",
        where=f"{SETTING}, {address}",
        expected=f"an answer within {server.start_seconds:g} s",
        got=f"none; its log ends with:\n{_tail(log)}",
        fix=f"see {log}; raise {SETTING}.start_seconds if the model takes longer to load",
    )


def _ended(code: int, log: Path, *, was_ready: bool) -> SftFlowError:
    """Make the error for a server that ended; at the start it is the command's fault, if not killed."""
    is_killed = code > SIGNALLED
    how = f"killed by signal {code - SIGNALLED}" if is_killed else f"exit code {code}"
    kind = ServiceUnreachable if is_killed or was_ready else ConfigError
    return kind(
        "the evaluation server ended by itself",
        where=str(log),
        expected="a server that runs until it is stopped",
        got=f"{how}; its log ends with:\n{_tail(log)}",
        fix=f"see the log; correct {SETTING}.command, or its options if memory ran out",
    )


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:]) or "    (it is empty)"
