"""A webhook that keeps what it gets, for tests of notifications."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DELIVERY_SECONDS = 30.0
QUIET_SECONDS = 2.0
"""Nothing more comes once nothing came for so long."""


class Receiver(ThreadingHTTPServer):
    """A webhook that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.got: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """Where to post to."""
        return f"http://127.0.0.1:{self.server_port}/hook"

    def wait_for(self, n_messages: int) -> list[dict[str, Any]]:
        """Wait until so many messages came, and then whether there are more."""
        deadline = time.monotonic() + DELIVERY_SECONDS
        while len(self.got) < n_messages and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(QUIET_SECONDS)
        return self.got


class Hook(BaseHTTPRequestHandler):
    """One call of the webhook."""

    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.server.got.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass
