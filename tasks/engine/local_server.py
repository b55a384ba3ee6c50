"""Servers on this machine: a free port, and a process that ends with the one that started it.

Run as `python -P local_server.py PARENT_PID COMMAND ...`, this file is the guard between the two. A
server has its own session, so neither a closed terminal nor Ctrl-C stops it: after `kill -9`, which
cannot be handled, it would run for ever. Polling `getppid` works on every Unix and, unlike
PR_SET_PDEATHSIG of Linux, does not depend on the thread that started the server.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

CONNECT_SECONDS = 1.0
POLL_SECONDS = 0.5
STOP_SECONDS = 20.0
"""Time for a server to stop by itself."""


@cache
def loopback() -> str:
    """Return 127.0.0.1, or ::1 on a machine whose loopback interface has no IPv4."""
    try:
        socket.create_server(("127.0.0.1", 0)).close()
    except OSError:
        return "::1"
    return "127.0.0.1"


def local_url(port: int) -> str:
    """Return the address of a server on this machine, such as http://127.0.0.1:4200."""
    host = loopback()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(port: int) -> socket.socket:
    """Listen on the loopback interface; OSError if the port is in use."""
    host = loopback()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def free_port() -> int:
    """Return a free port on the loopback interface."""
    with listen(0) as listener:
        return int(listener.getsockname()[1])


def is_listening(port: int) -> bool:
    """Return whether a server on this machine accepts connections at a port."""
    try:
        socket.create_connection((loopback(), port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def start_guarded(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a server in its own session, so that Ctrl-C does not reach it; it writes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)  # an earlier server keeps writing to its open file
    # -P: do not import from this folder.
    guard = [sys.executable, "-P", __file__, str(os.getpid())]
    with log.open("wb") as stream:
        return subprocess.Popen(  # noqa: S603 - the user's or our own command
            [*guard, *command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )


def stop_guarded(process: subprocess.Popen[bytes]) -> None:
    """Stop a server, and then every process that it started and left behind."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """Run the command until it ends, the guard gets SIGTERM, or the parent is gone."""
    parent = int(sys.argv[1])
    process = subprocess.Popen(sys.argv[2:])  # noqa: S603 - the user's or our own command
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while process.poll() is None:
        if os.getppid() != parent:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            os.killpg(0, signal.SIGKILL)  # this process too
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
    # As a shell reports it: 128 and the number of the signal.
    sys.exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)


if __name__ == "__main__":
    main()
