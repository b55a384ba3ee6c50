"""The judging language model, against a local service that speaks the protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import tasks.decision.llm_judge as judge_module
from schemas.config.evaluation import JudgeConfig
from schemas.errors import ConfigError, ServiceUnreachable
from tasks.decision.llm_judge import judge_messages, judge_pair, read_verdict
from tasks.engine.jsonl import read_jsonl, write_jsonl

pytestmark = [pytest.mark.unit, pytest.mark.loopback]


class FakeJudge:
    """A chat service whose replies a test writes; remembers what it was asked."""

    def __init__(self) -> None:
        self.reply: Callable[[str], tuple[int, str]] = lambda _: (200, "tie")
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(size))
                fake.asked.append(body)
                fake.keys.append(self.headers.get("Authorization"))
                status, text = fake.reply(body["messages"][-1]["content"])
                choice = {"message": {"role": "assistant", "content": text}}
                answer = json.dumps({"choices": [choice]}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeJudge]:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(judge_module, "BACKOFF_SECONDS", 0.001)
    fake = FakeJudge()
    yield fake
    fake.stop()


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Row 0: the challenger is right; row 1: the opponent is."""
    found = []
    for side, answers in (("opponent", ["wrong", "right"]), ("challenger", ["right", "wrong"])):
        folder = tmp_path / side / "key"
        folder.mkdir(parents=True)
        rows = [
            {"row": row, "question": f"q{row}", "reference": "right", "answer": answer}
            for row, answer in enumerate(answers)
        ]
        write_jsonl(folder / "answers.jsonl", rows)
        found.append(folder)
    return found[0], found[1]


def prefer_right(text: str) -> tuple[int, str]:
    is_first = "<Answer A>\nright" in text
    return 200, "A" if is_first else "B."


def ask(service: FakeJudge, sides: tuple[Path, Path], tmp_path: Path) -> dict[int, float]:
    return judge_pair(JudgeConfig(url=service.url, model="m"), *sides, tmp_path)


def test_judge_is_asked_in_both_orders(
    service: FakeJudge, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = prefer_right
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.0}
    assert len(service.asked) == 4
    assert {body["temperature"] for body in service.asked} == {0}
    kept = read_jsonl(tmp_path / "judge_opponent.jsonl")
    assert kept[0] == {"row": 0, "win": 1.0, "verdicts": ["challenger", "challenger"]}


def test_judge_that_favours_a_place_makes_ties(
    service: FakeJudge, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = lambda _: (200, "A")
    assert ask(service, sides, tmp_path) == {0: 0.5, 1: 0.5}


def test_verdicts_are_kept_between_retrains(
    service: FakeJudge, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = prefer_right
    first = ask(service, sides, tmp_path)
    n_asked = len(service.asked)
    assert ask(service, sides, tmp_path) == first
    assert len(service.asked) == n_asked


def test_key_comes_from_the_environment(
    service: FakeJudge,
    sides: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ask(service, sides, tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    (tmp_path / "home" / "judge.db").unlink()
    ask(service, sides, tmp_path)
    assert set(service.keys[:4]) == {None}
    assert set(service.keys[4:]) == {"Bearer sesame"}
    assert b"sesame" not in (tmp_path / "home" / "judge.db").read_bytes()


def test_busy_judge_is_asked_again(
    service: FakeJudge, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    def busy_at_first(text: str) -> tuple[int, str]:
        return (429, "") if len(service.asked) % 2 else prefer_right(text)

    service.reply = busy_at_first
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.0}
    assert len(service.asked) == 8


def test_judge_that_stays_busy_or_is_gone_is_an_infrastructure_error(
    service: FakeJudge, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = lambda _: (503, "")
    with pytest.raises(ServiceUnreachable, match="HTTP 503"):
        ask(service, sides, tmp_path)
    gone = JudgeConfig(url="http://127.0.0.1:9/v1", model="m", timeout_seconds=1)
    with pytest.raises(ServiceUnreachable, match="ConnectionError"):
        judge_pair(gone, *sides, tmp_path)


def test_refused_key_is_a_configuration_error(
    service: FakeJudge, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = lambda _: (401, "no")
    with pytest.raises(ConfigError, match="HTTP 401"):
        ask(service, sides, tmp_path)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "A"),
        (" b.\n", "B"),
        ("Tie", "tie"),
        ("**A**", "A"),
        ("A or B", "unreadable"),
        ("neither", "unreadable"),
        ("", "unreadable"),
    ],
)
def test_read_verdict(reply: str, verdict: str) -> None:
    assert read_verdict(reply) == verdict


def test_judge_messages_hold_the_users_instructions() -> None:
    row = {"question": "How wide?", "reference": "80 cm"}
    system, user = judge_messages("Be strict.", row, ("a", "b"))
    assert system["content"] == "Be strict. Reply with exactly one word: A, B or tie."
    assert "<Reference>\n80 cm\n</Reference>" in user["content"]
