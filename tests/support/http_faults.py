"""HTTP servers that refuse, alone or in front of a real one, and a proxy."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, str]
"""Status and body; status 0 resets the connection."""
Rule = Callable[[str, str], Answer | None]
"""Gets method and path; None passes the request on."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT")
HOP_HEADERS = ("host", "connection", "transfer-encoding", "content-length")


@contextmanager
def recording_proxy(upstream: str = "") -> Iterator[tuple[str, list[str]]]:
    """Run an HTTP proxy that records every address it is asked for.

    Args:
        upstream: Address of the server that answers for every host; without one, the proxy finds none.

    Yields:
        Its address, and the record, which grows.
    """
    asked: list[str] = []

    def record(method: str, path: str) -> Answer | None:
        asked.append(f"{method} {path}")
        return None if upstream else (502, "no such host")

    with refusing_server(record, upstream) as place:
        yield f"http://{place}", asked


@contextmanager
def refusing_server(rule: Rule, upstream: str = "") -> Iterator[str]:
    """Run a server that answers by a rule, and passes other requests on.

    Args:
        rule: The answer to each request.
        upstream: Address of the server behind it.

    Yields:
        Its host and port, without a scheme.
    """

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = rule(self.command, self.path)
            if found is None:
                self.pass_on(body)
            elif not found[0]:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            else:
                self.reply(found[0], {}, found[1].encode())

        def pass_on(self, body: bytes) -> None:
            behind = urlsplit(upstream)
            connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=60)
            kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP_HEADERS}
            asked = urlsplit(self.path)._replace(scheme="", netloc="").geturl()
            connection.request(self.command, asked, body, kept | {"Content-Length": len(body)})
            reply = connection.getresponse()
            headers = {k: v for k, v in reply.getheaders() if k.lower() not in HOP_HEADERS}
            self.reply(reply.status, headers, reply.read())
            connection.close()

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    for method in METHODS:
        setattr(Handler, f"do_{method}", Handler.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
