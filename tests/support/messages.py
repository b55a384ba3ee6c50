"""Messages of a conversation, as rows have them."""

from __future__ import annotations

from typing import Any

from schemas.rows.row import Conversation, RowFormat

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "How tall is the wall?"}
ANSWER = {"role": "assistant", "content": "Two metres."}


def chat(prompt: Any, answer: str) -> Conversation:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Conversation("a.jsonl", 1, RowFormat.MESSAGES, turns)
