"""The judging language model, against a local service that speaks the protocol."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from schemas.config.evaluation import JudgeConfig
from schemas.errors import ConfigError, ServiceUnreachable
from tasks.decision.llm_judge import INSTRUCTIONS, judge_messages, judge_pair, read_verdict
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.evaluation import openai_client
from tests.support.chat_service import ChatService, chat_service

pytestmark = [pytest.mark.unit, pytest.mark.loopback]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ChatService]:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(openai_client, "BACKOFF_SECONDS", 0.001)
    with chat_service() as found:
        yield found


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


def ask(service: ChatService, sides: tuple[Path, Path], tmp_path: Path) -> dict[int, float]:
    return judge_pair(JudgeConfig(url=service.url, model="m"), *sides, tmp_path)


def test_judge_is_asked_in_both_orders(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = prefer_right
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.0}
    assert service.paths == ["/v1/chat/completions"] * 4
    row = {"question": "q0", "reference": "right"}
    assert {
        "model": "m",
        "messages": judge_messages("", row, ("wrong", "right")),
        "temperature": 0,
        "max_tokens": 16,
    } in service.asked
    kept = read_jsonl(tmp_path / "judge_opponent.jsonl")
    assert kept[0] == {"row": 0, "win": 1.0, "verdicts": ["challenger", "challenger"]}


def test_judge_that_favours_a_place_makes_ties(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = lambda _: (200, "A")
    assert ask(service, sides, tmp_path) == {0: 0.5, 1: 0.5}


def test_verdicts_are_kept_between_retrains(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = prefer_right
    first = ask(service, sides, tmp_path)
    n_asked = len(service.asked)
    assert ask(service, sides, tmp_path) == first
    assert len(service.asked) == n_asked


def test_unreadable_verdict_is_asked_for_again(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = lambda text: (200, "A or B") if "q1" in text else prefer_right(text)
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.5}
    [_, row] = read_jsonl(tmp_path / "judge_opponent.jsonl")
    assert row["verdicts"] == ["unreadable", "unreadable"]
    service.reply, n_asked = prefer_right, len(service.asked)
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.0}
    assert len(service.asked) == n_asked + 2


def test_unreadable_verdict_that_an_earlier_version_kept_does_not_count(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = prefer_right
    ask(service, sides, tmp_path)
    with closing(sqlite3.connect(tmp_path / "home" / "judge.db")) as kept, kept:
        kept.execute("UPDATE verdicts SET verdict = 'unreadable'")
    service.asked.clear()
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.0}
    assert len(service.asked) == 4


def test_another_model_is_asked_again_at_the_same_address(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = prefer_right
    ask(service, sides, tmp_path)
    judge_pair(JudgeConfig(url=f"{service.url}/", model="n", n_rows=1), *sides, tmp_path)
    assert [body["model"] for body in service.asked] == ["m"] * 4 + ["n"] * 2


def test_rows_that_the_opponent_did_not_answer_are_left_out(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = prefer_right
    answers = read_jsonl(sides[0] / "answers.jsonl")
    write_jsonl(sides[0] / "answers.jsonl", answers[1:])
    assert ask(service, sides, tmp_path) == {1: 0.0}
    assert [row["row"] for row in read_jsonl(tmp_path / "judge_opponent.jsonl")] == [1]


def test_equal_questions_are_asked_once(service: ChatService, tmp_path: Path) -> None:
    row = {"row": 0, "question": "q", "reference": "right", "answer": "same"}
    sides = []
    for side in ("opponent", "challenger"):
        (tmp_path / side / "key").mkdir(parents=True)
        write_jsonl(tmp_path / side / "key" / "answers.jsonl", [row])
        sides.append(tmp_path / side / "key")
    assert ask(service, (sides[0], sides[1]), tmp_path) == {0: 0.5}
    assert len(service.asked) == 1


def test_verdicts_before_a_failure_are_kept(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    def fail_at_last(text: str) -> tuple[int, str]:
        if "q0" in text:
            return prefer_right(text)
        with closing(sqlite3.connect(tmp_path / "home" / "judge.db", timeout=30)) as kept:
            while kept.execute("SELECT count(*) FROM verdicts").fetchone()[0] < 2:
                time.sleep(0.01)
        return 401, ""

    service.reply = fail_at_last
    with pytest.raises(ConfigError):
        ask(service, sides, tmp_path)
    service.reply = prefer_right
    service.asked.clear()
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.0}
    assert len(service.asked) == 2


def test_key_comes_from_the_environment(
    service: ChatService,
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
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    seen: set[str] = set()

    def busy_at_first(text: str) -> tuple[int, str]:
        is_new = text not in seen
        seen.add(text)
        return (429, "") if is_new else prefer_right(text)

    service.reply = busy_at_first
    assert ask(service, sides, tmp_path) == {0: 1.0, 1: 0.0}
    assert len(service.asked) == 8


def test_judge_that_stays_busy_or_is_gone_is_an_infrastructure_error(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = lambda _: (503, "")
    with pytest.raises(ServiceUnreachable, match="HTTP 503"):
        ask(service, sides, tmp_path)
    gone = JudgeConfig(url="http://127.0.0.1:9/v1", model="m", timeout_seconds=1)
    with pytest.raises(ServiceUnreachable, match="ConnectionError"):
        judge_pair(gone, *sides, tmp_path)


def test_refused_key_is_a_configuration_error(
    service: ChatService, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    service.reply = lambda _: (401, "no")
    with pytest.raises(ConfigError, match="HTTP 401") as caught:
        ask(service, sides, tmp_path)
    assert "OPENAI_API_KEY" in caught.value.fix
    assert caught.value.what == "the judge rejects the request"
    assert caught.value.where.startswith("evaluation.judge, http://127.0.0.1")
    assert len(service.asked) <= 4  # one of each question


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "A"),
        (" B.\n", "B"),
        ("b", "unreadable"),
        ("TIE", "tie"),
        ("Answer A", "A"),
        ("A is better", "A"),
        ("B is a better answer", "B"),
        ("A good choice would be B", "B"),
        ("This is a difficult comparison", "unreadable"),
        ("A difficult comparison", "unreadable"),
        ("It is a tie", "tie"),
        ("A and B are a tie", "unreadable"),
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
    reply = "Reply with exactly one word: A, B or tie."
    assert system == {"role": "system", "content": f"Be strict. {reply}"}
    parts = {"Request": "How wide?", "Reference": "80 cm", "Answer A": "a", "Answer B": "b"}
    text = "\n\n".join(f"<{name}>\n{part}\n</{name}>" for name, part in parts.items())
    assert user == {"role": "user", "content": f"{text}\n\n{reply}"}
    assert judge_messages("", row, ("a", "b"))[0]["content"] == f"{INSTRUCTIONS} {reply}"
