"""deploy/compose.yaml, and its servers as processes of this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.engine.local_server import free_port, is_listening
from tests.support.deployment import TEXT, VARIABLE
from tests.support.processes import clean_environment, running

LOOPBACK = "127.0.0.1"
"""Where the health checks of the file ask."""
DATABASE = re.compile(r"postgresql\+(asyncpg|psycopg2)://sft@postgresql:5432/(\w+)")
HOSTS = re.compile(r"\b(?:prefect|mlflow|localhost|127\.0\.0\.1):(?=4200|5000)|\b0\.0\.0\.0\b")


@dataclass(frozen=True)
class Team:
    """The servers of the Compose file, with ports and folders of this machine in its text."""

    document: dict[str, Any]
    folder: Path

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment variables of a service."""
        return dict(self.document["services"][service]["environment"])

    @contextmanager
    def running(self, service: str) -> Iterator[None]:
        """Run a server until the block ends; it is up when its health check passes.

        Args:
            service: Name of its service.

        Yields:
            Nothing.
        """
        found = self.document["services"][service]
        for config in found.get("configs", ()):
            content = self.document["configs"][config["source"]]["content"]
            Path(config["target"]).write_text(content, encoding="utf-8")
        check = [sys.executable, *found["healthcheck"]["test"][2:]]
        with running(
            [str(Path(sys.executable).with_name(found["command"][0])), *found["command"][1:]],
            self.folder / f"{service}.log",
            {"PREFECT_HOME": str(self.folder / "prefect"), **self.environment(service)},
            lambda: _passes(check),
        ):
            yield


def _passes(check: list[str]) -> bool:
    port = int(re.findall(rf"{LOOPBACK}:(\d+)/", check[-1])[0])
    if not is_listening(port):  # a process for each question would slow the start down
        return False
    done = subprocess.run(check, capture_output=True, env=clean_environment(), check=False)
    return done.returncode == 0


def on_this_machine(folder: Path, values: Mapping[str, str], postgresql: str = "") -> Team:
    """Read the Compose file as Docker does, but with places of this machine.

    Args:
        folder: In place of those of the containers, and of the S3 store.
        values: Content of deploy/.env.
        postgresql: `host:port` of the databases; without it, they are SQLite files.

    Returns:
        The servers, which do not run yet.
    """

    def database(found: re.Match[str]) -> str:
        driver, name = found.groups()
        if postgresql:
            return f"postgresql+{driver}://sft@{postgresql}/{name}"
        return f"sqlite{'+aiosqlite' if driver == 'asyncpg' else ''}:///{folder}/{name}.db"

    text = VARIABLE.sub(lambda found: values[found[1]], TEXT)
    text = HOSTS.sub(lambda found: f"{LOOPBACK}:" if found[0].endswith(":") else LOOPBACK, text)
    for port in ("4200", "5000"):
        text = text.replace(port, str(free_port()))
    text = DATABASE.sub(database, text).replace("s3://mlflow", f"{folder}/artifacts")
    text = text.replace("/etc/mlflow/", f"{folder}/")
    return Team(yaml.safe_load(text), folder)
