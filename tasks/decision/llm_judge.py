"""A judging language model: which of two answers is better, asked twice with the order swapped."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.config.evaluation import JudgeConfig
from tasks.engine.home import work_directory
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.engine.progress import progress_bar
from tasks.evaluation.openai_client import Reply, Service, open_client

MOST_ANSWER_TOKENS = 16
INSTRUCTIONS = (
    "You compare two answers to one request with a reference answer. Say which answer is "
    "nearer to the reference in content and form."
)
REPLY = "Reply with exactly one word: A, B or tie."
UNREADABLE = "unreadable"
_WORD = re.compile(
    r"\bA\b(?!\s+(?!(?:is|was|wins|has|gives|and|or|because|over|than)\b)[a-z])|\bB\b|\b[Tt][Ii][Ee]\b"
)
"""Capital letters; an A before a word in small letters, other than these, is an article."""


Messages = list[dict[str, str]]


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
    the work directory, so a retrain asks only what is new, and what could not be read before.
    Source: Zheng et al. 2023, MT-Bench.

    Args:
        judge: Who judges, and how many rows.
        opponent: Output folder of the opponent's evaluation, with `answers.jsonl`.
        challenger: That of the challenger.
        output: Gets `judge_<opponent>.jsonl`, one line per row.

    Returns:
        Row to win of the challenger: 1, 0.5 or 0.
    """
    theirs = {row["row"]: row["answer"] for row in read_jsonl(opponent / "answers.jsonl")}
    ours = read_jsonl(challenger / "answers.jsonl")[: judge.n_rows]
    rows = [row for row in ours if row["row"] in theirs]
    pairs = [(theirs[row["row"]], row["answer"]) for row in rows]
    questions = [
        judge_messages(judge.instructions, row, answers)
        for row, pair in zip(rows, pairs, strict=True)
        for answers in (pair, pair[::-1])
    ]
    verdicts = _ask(judge, questions)
    judged = [
        _judge_row(int(row["row"]), *verdicts[2 * place : 2 * place + 2])
        for place, row in enumerate(rows)
    ]
    write_jsonl(output / f"judge_{opponent.parent.name}.jsonl", [asdict(row) for row in judged])
    return {row.row: row.win for row in judged}


def _judge_row(row: int, first: str, second: str) -> JudgedRow:
    """Combine the verdicts of both orders: the challenger was second, then first."""
    verdicts = (
        {"A": "opponent", "B": "challenger"}.get(first, first),
        {"A": "challenger", "B": "opponent"}.get(second, second),
    )
    wins = {("challenger", "challenger"): 1.0, ("opponent", "opponent"): 0.0}
    return JudgedRow(row, wins.get(verdicts, 0.5), verdicts)


@contextmanager
def _kept_verdicts() -> Iterator[sqlite3.Connection]:
    """Open the kept verdicts, which contain hashes but no text; only one thread uses them."""
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


def _ask(judge: JudgeConfig, questions: Sequence[Messages]) -> list[str]:
    """Return the verdict on each question: A, B, tie or unreadable, which is not kept."""
    keys = [_key(judge, messages) for messages in questions]
    with _kept_verdicts() as kept, open_client(_service(judge)) as client:
        select = "SELECT verdict FROM verdicts WHERE question = ?"
        rows = {key: kept.execute(select, (key,)).fetchone() for key in keys}
        verdicts = {key: str(row[0]) for key, row in rows.items() if row}
        verdicts = {key: found for key, found in verdicts.items() if found != UNREADABLE}
        missing = {
            key: one for key, one in zip(keys, questions, strict=True) if key not in verdicts
        }
        names = list(missing)
        with progress_bar(total=len(missing), label="judge", unit="question") as bar:

            def take(place: int, reply: Reply) -> None:
                verdict = verdicts[names[place]] = read_verdict(reply.text)
                if verdict != UNREADABLE:
                    with kept:
                        insert = "INSERT OR REPLACE INTO verdicts VALUES (?, ?)"
                        kept.execute(insert, (names[place], verdict))
                bar.update(1)

            bodies = [_body(judge, messages) for messages in missing.values()]
            client.ask_all("/chat/completions", bodies, take)
    return [verdicts[key] for key in keys]


def _key(judge: JudgeConfig, messages: Messages) -> str:
    asked = json.dumps([judge.url, judge.model, messages], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()


def _service(judge: JudgeConfig) -> Service:
    return Service(
        name="the judge",
        setting="evaluation.judge",
        url=judge.url.rstrip("/"),
        timeout_seconds=judge.timeout_seconds,
        api_key=os.environ.get(judge.api_key_variable, ""),
        fix=f"start it, or correct evaluation.judge (url, model {judge.model}) or the key in "
        f"{judge.api_key_variable}; rows with a verdict are not sent again",
    )


def _body(judge: JudgeConfig, messages: Messages) -> dict[str, Any]:
    return {
        "model": judge.model,
        "messages": messages,
        "temperature": 0,
        "max_tokens": MOST_ANSWER_TOKENS,
    }


def judge_messages(instructions: str, row: Mapping[str, Any], answers: Sequence[str]) -> Messages:
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
        return UNREADABLE
    word = words.pop()
    return "tie" if word == "TIE" else word
