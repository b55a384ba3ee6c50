"""What every test gets: a work directory of its own, no network, libraries told to be quiet."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

from tasks.engine.home import prepare_environment
from tests.support import parts

# Before Prefect is imported anywhere: no test touches the user's own Prefect, hub or Git files.
_prefect = os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="sft-flow-prefect-")
_maker = os.getpid()
# Temporary servers share one database here: each of its own takes ten seconds to create.
os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{_prefect}/prefect.db"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are too small for two threads
for _name in ("PREFECT_API_URL", "PREFECT_LOCAL_STORAGE_PATH", "MLFLOW_TRACKING_URI", "SFT_HOME"):
    os.environ.pop(_name, None)

prepare_environment()


@atexit.register
def _remove_folder() -> None:
    if os.getpid() == _maker:  # forked processes have this function too
        shutil.rmtree(_prefect, ignore_errors=True)


LOOPBACK = ["127.0.0.1", "::1", "localhost"]
SHARED_SERVER = {"prefect_server", "finished_run"}
"""Fixtures that start once for all tests that use them: with several workers, in one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in tests/integration, take the rest for unit tests, and share out the work.

    Workers take groups from the front: a group is a file, or all tests that use the shared server.
    Long groups come first, so that no worker waits for one at the end.
    """
    for item in items:
        names = {marker.name for marker in item.iter_markers()}
        if not names & {"unit", "integration", "slow"}:
            is_integration = "integration" in item.path.parts
            item.add_marker("integration" if is_integration else "unit")
        if "xdist_group" not in names:
            used = set(getattr(item, "fixturenames", ()))
            group = "shared server" if used & SHARED_SERVER else item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("integration") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI, fail a test that lacks a part which CI can have."""
    report = yield
    if parts.IS_CI and report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if parts.is_forbidden(reason):
            report.outcome = "failed"
            report.longrepr = f"{reason}: CI skips no test for a missing part"
    return report


def pytest_unconfigure(config: pytest.Config) -> None:
    """Sum up in the last line what was skipped, and how to get what it needs."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    reasons = [str(found.longrepr[2]) for found in skipped if isinstance(found.longrepr, tuple)]
    if line := parts.summary(reasons):
        reporter.write_line(line)


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a work directory of its own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SFT_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Block sockets for unit tests; allow only this machine for the others."""
    may_use_loopback = any(
        request.node.get_closest_marker(name) for name in ("integration", "slow", "loopback")
    )
    if may_use_loopback:
        socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
    else:
        disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
    socket_allow_hosts(None)
