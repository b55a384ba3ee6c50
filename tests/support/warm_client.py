"""A client of `tests.support.warm`: looks like the process that it asks for, and ends as it ends."""

import json
import os
import signal
import socket
import sys
import time

START_SECONDS = 300


def connect(address: str) -> socket.socket:
    """Wait for the server's socket, and connect."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(address)
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return client


def main() -> int:
    """Ask for a process, pass signals on to it, and return its exit code."""
    address, *arguments = sys.argv[1:]
    client = connect(address)
    socket.send_fds(client, [b"x"], [0, 1, 2])
    order = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    client.sendall(json.dumps(order).encode() + b"\n")
    with client.makefile("r") as answers:
        pid = int(answers.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda caught, _: os.kill(pid, caught))
        return int(answers.readline())


if __name__ == "__main__":
    code = main()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (9, 19) else None
        os.kill(os.getpid(), -code)
    sys.exit(code)
