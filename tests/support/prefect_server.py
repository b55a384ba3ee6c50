"""A real Prefect server on a free port with a home of its own, and how to speak to it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flows.services.prefect_api import is_up
from tasks.engine.local_server import free_port, local_url
from tests.support.processes import clean_environment, running

ROOT = Path(__file__).parents[2]
DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


@dataclass
class Server:
    """A running Prefect server."""

    address: str
    """Of its API."""
    environment: dict[str, str]
    """For processes that are to use it."""

    def python(
        self, *command: str, folder: Path = ROOT, timeout_seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run Python, and see it succeed.

        Args:
            command: Arguments of the interpreter.
            folder: Where; the project's by default.
            timeout_seconds: Longest time it may take.

        Returns:
            The process, with what it wrote.
        """
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            cwd=folder,
            env=self.environment | {"PWD": str(folder)},
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def prefect(self, *arguments: str, timeout_seconds: float = 120) -> str:
        """Run one command of Prefect's own command line.

        Args:
            arguments: Of the command.
            timeout_seconds: Longest time it may take.

        Returns:
            What it wrote.
        """
        done = self.python("-m", "prefect", *arguments, timeout_seconds=timeout_seconds)
        return done.stdout + done.stderr

    def ask(self, path: str, question: dict[str, Any]) -> Any:
        """Put one question to the API.

        Args:
            path: Below the API's address.
            question: Filters.

        Returns:
            The answer.
        """
        request = urllib.request.Request(
            f"{self.address}{path}",
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running_server(
    folder: Path, database: str = "", settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    """Run `prefect server start` until the block ends.

    Args:
        folder: Gets the server's home, its log and a work directory.
        database: SQLAlchemy's address of the server's database; by default SQLite in its home.
        settings: Environment variables of the server alone.

    Yields:
        The server, once it answers.
    """
    port = free_port()
    address = f"{local_url(port)}/api"
    environment = clean_environment() | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": address,
        "SFT_HOME": str(folder / "home"),
    }
    own = {**environment, **({DATABASE_VARIABLE: database} if database else {}), **settings}
    with running(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        folder / "server.log",
        own,
        lambda: is_up(address),
    ):
        yield Server(address, environment)
