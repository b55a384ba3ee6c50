"""A small server of completions that fails in the way it is told, run as a process of its own.

python completions_server.py MODEL PORT WAY
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL, PORT, WAY = sys.argv[1:4]
ASKED: list[dict[str, Any]] = []
LOCK = threading.Lock()
FAILURES = 2


def reply(body: dict[str, Any], number: int) -> tuple[int, str]:
    """Return status and text of the answer to the request with this number; 1 finds out if it is up."""
    if WAY == "hangs" and number > 1:
        threading.Event().wait()
    if WAY == "dies later" and number > 1:
        os._exit(7)
    if WAY == "is killed later" and number > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if WAY == "loads" and number <= FAILURES:
        return 503, "loading"
    if WAY == "fails at times" and number in range(2, 2 + FAILURES):
        return 500, "odd"
    if WAY == "always fails":
        return 500, "odd"
    if WAY == "writes a page":
        return 200, "<html>welcome</html>"
    if WAY == "lacks the model":
        return 404, json.dumps({"error": f"no model {body['model']}"})
    words = f"{Path(body['model']).name}: {body['prompt']}"[: body["max_tokens"]]
    tokens = re.sub(r"<\|\w+\|>", "x", body["prompt"])  # as the toy tokenizer, for plain letters
    usage = {"prompt_tokens": len(tokens), "completion_tokens": len(words)}
    if WAY == "adds a token":
        usage["prompt_tokens"] += 1
    choice = {"index": 0, "text": words, "finish_reason": "length"}
    return 200, json.dumps({"choices": [choice], "usage": usage})


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with LOCK:
            ASKED.append(body)
            number = len(ASKED)
        status, text = reply(body, number)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def main() -> None:
    """Serve in the way that was asked for."""
    sys.stderr.write(f"serving {MODEL} {os.getpid()}\n")
    if WAY == "dies":
        sys.exit("no such option: --fast")
    if WAY == "dies without a word":
        os._exit(9)
    if WAY == "does not stop":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if WAY in ("does not stop", "leaves a child"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.stderr.write(f"child {child.pid}\n")
    if WAY == "never listens":
        threading.Event().wait()
    ThreadingHTTPServer(("127.0.0.1", int(PORT)), Handler).serve_forever()


if __name__ == "__main__":
    main()
