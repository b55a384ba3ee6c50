"""A server of this machine ends with the process that started it, and ends whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.engine.local_server import (
    free_port,
    is_listening,
    listen,
    local_url,
    start_guarded,
    stop_guarded,
)
from tests.support import ipv6_only, parts
from tests.support.processes import await_end, is_running

ROOT = Path(__file__).parents[4]
STARTER = """
import os, sys, time
from pathlib import Path
from tasks.engine.local_server import start_guarded

print(start_guarded(sys.argv[2:], Path(sys.argv[1]), os.environ).pid, flush=True)
time.sleep(600)
"""
SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


@pytest.mark.loopback
def test_free_port_can_be_bound() -> None:
    port = free_port()
    assert not is_listening(port)
    with listen(port) as server:
        assert server.getsockname() == ("127.0.0.1", port)
        assert local_url(port) == f"http://127.0.0.1:{port}"
        assert is_listening(port)
        with pytest.raises(OSError, match="in use"):
            listen(port)


@parts.ROOT.mark
def test_servers_listen_on_ipv6_where_there_is_no_other() -> None:
    parts.Part(
        "network namespaces", f"{parts.OPTIONAL}CAP_SYS_ADMIN", ipv6_only.is_allowed()
    ).require()
    program = """
from tasks.engine.local_server import *
with listen(port := free_port()) as server:
    print(server.getsockname()[0], is_listening(port), local_url(4200))
print(is_listening(port))
"""
    command = [*ipv6_only.COMMAND, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.split() == ["::1", "True", "http://[::1]:4200", "False"], done.stderr


def printed_id(log: Path) -> int:
    """Return what a sleeper wrote, once it has."""
    deadline = time.monotonic() + 60
    while not (log.is_file() and log.read_text(encoding="utf-8").endswith("\n")):
        assert time.monotonic() < deadline, "the sleeper wrote nothing"
        time.sleep(0.05)
    return int(log.read_text(encoding="utf-8"))


def test_server_of_a_killed_process_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", STARTER, str(log), sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        guard_id, server_id = int(starter.stdout.readline()), printed_id(log)
        assert is_running(guard_id)
        assert is_running(server_id)
        starter.send_signal(signal.SIGKILL)
        await_end(guard_id, server_id)


def test_stop_guarded_stops_the_server_and_its_guard(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "log"
    process = start_guarded([sys.executable, "-c", SLEEPER], log, os.environ)
    server_id = printed_id(log)
    stop_guarded(process)
    await_end(process.pid, server_id)
    assert process.returncode == 128 + signal.SIGTERM
    stop_guarded(process)  # a second time does nothing


@pytest.mark.parametrize(
    ("program", "code"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_guard_ends_as_its_command_did(tmp_path: Path, program: str, code: int) -> None:
    process = start_guarded([sys.executable, "-c", program], tmp_path / "log", os.environ)
    assert process.wait(60) == code


def test_environment_is_the_one_given(tmp_path: Path) -> None:
    program = "import os; print(os.environ['WALL'])"
    given = {**os.environ, "WALL": "red"}
    assert start_guarded([sys.executable, "-c", program], tmp_path / "log", given).wait(60) == 0
    assert (tmp_path / "log").read_text(encoding="utf-8") == "red\n"
