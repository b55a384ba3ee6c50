"""Processes that start at once: forked from a server that has imported what training and reload need.

Importing TRL takes ten seconds of a core, and a toy trains in less. A process of the product that a
test starts for its result is forked here; it is still a process of its own, with its own arguments,
environment and exit code. Tests of starting, killing and limits keep the real command.

Run as `python -m tests.support.warm SOCKET` by `WarmProcesses`.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("warm_client.py")
MODULES = ("tasks.training.process.run", "tasks.release.reload.run")
"""What is started with `python -m` and forked instead."""
PRELOADED = (
    "trl.trainer.sft_trainer",
    "transformers.models.llama.modeling_llama",
    "peft",
    "mlflow.pyfunc",
    "mlflow.transformers",
    "tasks.training.process._trainer",
    "tasks.training.process._results",
    "tasks.evaluation.losses",
    "tasks.registry.versions",
)
TICK_SECONDS = 0.02


class WarmProcesses:
    """Replaces `subprocess` in a module that starts one of `MODULES`."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet.

        Args:
            folder: Gets the socket and the server's log.
        """
        self.address = folder / "warm"
        self.server: subprocess.Popen[bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        """Give everything else of `subprocess`."""
        return getattr(subprocess, name)

    def Popen(self, command: list[str], **options: Any) -> Any:  # noqa: N802 - its name there
        """Start a process."""
        return subprocess.Popen(self._forked(command), **options)

    def run(self, command: list[str], **options: Any) -> Any:
        """Run a process."""
        return subprocess.run(self._forked(command), check=options.pop("check", False), **options)

    def _forked(self, command: list[str]) -> list[str]:
        words = [word for word in command[1:] if word != "-P"]
        if words[0] != "-m" or words[1] not in MODULES:
            return command
        if self.server is None:
            with self.address.with_suffix(".log").open("wb") as log:
                self.server = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(self.address)],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        return [sys.executable, "-I", "-S", str(CLIENT), str(self.address), *words[1:]]

    def stop(self) -> None:
        """End the server."""
        if self.server:
            self.server.kill()
            self.server.wait()


def serve(address: str) -> None:
    """Import everything, then fork for whoever connects, until the parent is gone.

    Args:
        address: Path of the socket.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return keep(connection)
        connection.close()


def keep(connection: socket.socket) -> None:
    """Fork the process that a client asks for, and report its exit code; end it when the client ends.

    Args:
        connection: To the client.
    """
    connection.settimeout(None)
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("r") as stream:
        order = json.loads(stream.readline())
    pid = os.fork()
    if not pid:
        connection.close()
        return become(order, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{pid}\n".encode())
    ended, status = 0, 0
    while not ended:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended and select.select([connection], [], [], TICK_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)  # the client was killed
            ended, status = os.waitpid(pid, 0)
            os._exit(0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(order: dict[str, Any], descriptors: list[int]) -> None:
    """Run the module with the arguments, environment, folder and files of the client.

    Args:
        order: What the client sent.
        descriptors: Its standard input, output and error.
    """
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = order["arguments"]
    forget(sys.modules)
    runpy.run_module(order["arguments"][0], run_name="__main__", alter_sys=True)


def forget(modules: dict[str, ModuleType]) -> None:
    """Leave out the modules that are to run as a program."""
    for name in MODULES:
        modules.pop(name, None)


if __name__ == "__main__":
    serve(sys.argv[1])
