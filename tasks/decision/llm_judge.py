"""A judging language model: which of two answers is better, asked twice with the order swapped."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.config.evaluation import JudgeConfig
from schemas.errors import ConfigError, ServiceUnreachable
from tasks.engine.home import work_directory
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.engine.progress import progress_bar

ATTEMPTS = 4
BACKOFF_SECONDS = 0.5
RETRIED_STATUS = (408, 409, 429, 500, 502, 503, 504)
MOST_ANSWER_TOKENS = 16
INSTRUCTIONS = (
    "You compare two answers to one request with a reference answer. Say which answer is "
    "nearer to the reference in content and form."
)
REPLY = "Reply with exactly one word: A, B or tie."
_WORD = re.compile(r"\b(A|B|tie)\b", re.IGNORECASE)


@dataclass(frozen=True)
class JudgedRow:
    """The judge's verdict on one row."""

    row: int
    win: float
    """1: the challenger is better in both orders; 0: the opponent is; 0.5: anything else."""
    verdicts: tuple[str, str]
    """challenger, opponent, tie or unreadable; the challenger was second, then first."""


def judge_pair(
    judge: JudgeConfig, opponent: Path, challenger: Path, output: Path
) -> dict[int, float]:
    """Let the judge compare both models' answers, row by row.

    A verdict counts only when both orders give it: judges favour a position. Verdicts are kept in
    the work directory, so a retrain asks only what is new. Source: Zheng et al. 2023, MT-Bench.

    Args:
        judge: Who judges, and how many rows.
        opponent: Output folder of the opponent's evaluation, with `answers.jsonl`.
        challenger: That of the challenger.
        output: Gets `judge_<opponent>.jsonl`, one line per row.

    Returns:
        Row to win of the challenger: 1, 0.5 or 0.

    Raises:
        ServiceUnreachable: The judge did not answer, or not in the way of the protocol.
        ConfigError: The judge refused the key or the model.
    """
    theirs = {row["row"]: row["answer"] for row in read_jsonl(opponent / "answers.jsonl")}
    ours = read_jsonl(challenger / "answers.jsonl")[: judge.n_rows]
    judged = []
    with _verdicts() as kept, progress_bar(total=len(ours), label="judge", unit="row") as bar:
        for row in ours:
            if row["row"] in theirs:
                judged.append(_judge_row(judge, kept, row, theirs[row["row"]]))
            bar.update(1)
    write_jsonl(output / f"judge_{opponent.parent.name}.jsonl", [asdict(row) for row in judged])
    return {row.row: row.win for row in judged}


def _judge_row(
    judge: JudgeConfig, kept: sqlite3.Connection, row: Mapping[str, Any], theirs: str
) -> JudgedRow:
    """Ask in both orders."""
    first = _ask(judge, kept, row, (theirs, row["answer"]))
    second = _ask(judge, kept, row, (row["answer"], theirs))
    verdicts = (
        {"A": "opponent", "B": "challenger"}.get(first, first),
        {"A": "challenger", "B": "opponent"}.get(second, second),
    )
    wins = {("challenger", "challenger"): 1.0, ("opponent", "opponent"): 0.0}
    return JudgedRow(int(row["row"]), wins.get(verdicts, 0.5), verdicts)


@contextmanager
def _verdicts() -> Iterator[sqlite3.Connection]:
    """Open the kept verdicts, which contain hashes but no text."""
    path = work_directory() / "judge.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30)
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS verdicts (question TEXT PRIMARY KEY, verdict TEXT)"
        )
        yield connection
    finally:
        connection.close()


def _ask(
    judge: JudgeConfig,
    kept: sqlite3.Connection,
    row: Mapping[str, Any],
    answers: tuple[str, str],
) -> str:
    """Return the judge's verdict: A, B, tie or unreadable."""
    messages = judge_messages(judge.instructions, row, answers)
    asked = json.dumps([judge.url, judge.model, messages], sort_keys=True)
    question = hashlib.sha256(asked.encode()).hexdigest()
    found = kept.execute("SELECT verdict FROM verdicts WHERE question = ?", (question,)).fetchone()
    if found:
        return str(found[0])
    verdict = read_verdict(_complete(judge, messages))
    with kept:
        kept.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (question, verdict))
    return verdict


def judge_messages(
    instructions: str, row: Mapping[str, Any], answers: Sequence[str]
) -> list[dict[str, str]]:
    """Write the request.

    Args:
        instructions: The user's; empty: the built-in ones.
        row: Has `question` and `reference`.
        answers: Answer A and answer B.

    Returns:
        Chat messages.
    """
    parts = {
        "Request": row["question"],
        "Reference": row["reference"],
        "Answer A": answers[0],
        "Answer B": answers[1],
    }
    text = "\n\n".join(f"<{name}>\n{part}\n</{name}>" for name, part in parts.items())
    return [
        {"role": "system", "content": f"{instructions or INSTRUCTIONS} {REPLY}"},
        {"role": "user", "content": f"{text}\n\n{REPLY}"},
    ]


def read_verdict(reply: str) -> str:
    """Return A, B or tie if the judge's reply has just one of them, else unreadable, a tie."""
    words = {word.upper() for word in _WORD.findall(reply)}
    if len(words) != 1:
        return "unreadable"
    word = words.pop()
    return "tie" if word == "TIE" else word


def _complete(judge: JudgeConfig, messages: list[dict[str, str]]) -> str:
    """Ask the service, again where that can help."""
    import requests

    address = f"{judge.url.rstrip('/')}/chat/completions"
    key = os.environ.get(judge.api_key_variable, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body: dict[str, Any] = {
        "model": judge.model,
        "messages": messages,
        "temperature": 0,
        "max_tokens": MOST_ANSWER_TOKENS,
    }
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
        try:
            answer = requests.post(
                address, json=body, headers=headers, timeout=judge.timeout_seconds
            )
        except requests.RequestException as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        if answer.ok:
            return _text_of(answer, address)
        problem = f"HTTP {answer.status_code}: {answer.text[:200]}"
        if answer.status_code not in RETRIED_STATUS:
            raise ConfigError(
                "the judge rejects the request",
                where=f"evaluation.judge, {address}",
                expected=f"model {judge.model}, and a key in {judge.api_key_variable} if it needs one",
                got=problem,
                fix="correct evaluation.judge or the key",
            )
    raise _no_answer(address, problem)


def _text_of(answer: Any, address: str) -> str:
    try:
        return str(answer.json()["choices"][0]["message"]["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _no_answer(address, f"not a chat completion ({type(error).__name__})") from error


def _no_answer(address: str, got: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "the judge does not answer",
        where=address,
        expected="an OpenAI-compatible service",
        got=got,
        fix="start it or correct evaluation.judge.url; rows with a verdict are not sent again",
    )
