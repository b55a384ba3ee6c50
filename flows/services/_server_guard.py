"""Run the temporary Prefect server, and end it when the run that started it is gone.

Run as `python -P _server_guard.py PARENT_PID server start ...`. The server has a session of its
own, so neither a closed terminal nor the end of the run reaches it: after `kill -9`, which no
handler sees, it would stay for ever. Polling `getppid` works on every Unix, starts no process
more, and unlike Linux' PR_SET_PDEATHSIG does not depend on the thread that started the server.
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
"""Time the server gets to end by itself."""


def end_with(parent: int) -> None:
    """Wait until this process has another parent, then end it.

    Args:
        parent: Process id of the run; compared from the start, in case it is gone already.
    """
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Watch the parent from a thread, and be `prefect` in the main one."""
    parent = int(sys.argv.pop(1))
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
