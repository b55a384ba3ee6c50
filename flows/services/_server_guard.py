"""Run the temporary Prefect server, and stop it when the run that started it is gone.

Run as `python -P _server_guard.py PARENT_PID server start ...`. The server has its own session, so
neither a closed terminal nor the end of the run stops it: after `kill -9`, which cannot be
handled, it would run for ever. Polling `getppid` works on every Unix, needs no other process, and
unlike PR_SET_PDEATHSIG of Linux does not depend on the thread that started the server.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

POLL_SECONDS = 0.5
STOP_SECONDS = 20.0
"""Time for the server to stop by itself."""


def end_with(parent: int) -> None:
    """Stop this process when its parent is not the given process any more."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Watch the parent in a thread, and run `prefect` in the main thread."""
    parent = int(sys.argv.pop(1))
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
