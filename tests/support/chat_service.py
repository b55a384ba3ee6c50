"""A chat service whose replies a test writes; it remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatService:
    """A service on this machine that speaks the protocol of OpenAI."""

    def __init__(self) -> None:
        self.reply: Callable[[str], tuple[int, str]] = lambda _: (200, "tie")
        self.headers: dict[str, str] = {}
        self.document = ""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(size))
                fake.asked.append(body)
                fake.paths.append(self.path)
                fake.keys.append(self.headers.get("Authorization"))
                status, text = fake.reply(body["messages"][-1]["content"])
                choice = {"message": {"role": "assistant", "content": text}}
                answer = (fake.document or json.dumps({"choices": [choice]})).encode()
                self.send_response(status)
                for name, value in fake.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                with suppress(ConnectionError):  # the client has given up
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def hang(self, _: str) -> tuple[int, str]:
        """Answer when the test is over."""
        self.released.wait()
        return 200, "tie"


@contextmanager
def chat_service() -> Iterator[ChatService]:
    """Serve until the block ends.

    Yields:
        The service.
    """
    service = ChatService()
    try:
        yield service
    finally:
        service.released.set()
        service.server.shutdown()
        service.server.server_close()
