"""Find answers that break off, or go on where the next turn should begin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from schemas.texts.damage import CODE

if TYPE_CHECKING:
    import polars

FENCE = "```"
NEVER_CLOSED = "is never closed"
NO_ANSWER = "nothing follows the thought"
_FENCE_LINE = re.compile(r"^[ \t>]*(?P<ticks>`{3,})(?P<language>[^`\n]*)$", re.MULTILINE)
_OPENED = re.compile(
    r"(?:^|\n|</think>)\s{0,4}(?P<opened><(?P<name>answer|solution|final_answer)>"
    r"|<\|begin_of_(?P<part>solution|answer)\|>)"
)
_THOUGHT_NAMES = "think|thinking|thought|reasoning"
_ONLY_A_THOUGHT = re.compile(
    rf"\s*(?:<(?P<name>{_THOUGHT_NAMES})>[\s\S]*</(?P=name)>"
    r"|<\|begin_of_thought\|>[\s\S]*<\|end_of_thought\|>|\[THINK\][\s\S]*\[/THINK\])\s*"
)
_LABELS = "Instruction|Human|User"
_NEXT_TURN = re.compile(
    rf"\S\s+(?P<found>#{{2,4}} ?(?:{_LABELS}):)|\n(?P<empty>#{{2,4}} ?(?:{_LABELS}|Response|Assistant):)\s*\Z"
    r"|\n(?P<said>(?:Human|User|USER):)[^\n]+\n+(?:Assistant|ASSISTANT|AI|Bot):"
    r"|(?P<end>\[EOS\]|<END>|<EOS>)\s*\Z"
)
_LABELLED_FROM_THE_START = re.compile(
    r"\s*(?:[^\n]*:\s*\n+)?(?:[*#_> ]*)(?:Human|User|USER|Assistant|ASSISTANT|AI|Bot)\b"
)
ANSWER_END_HINT = (
    rf"<(?:answer|solution|final_answer)>|<\|begin_of_(?:solution|answer)\|>|</(?:{_THOUGHT_NAMES})>\s*$"
    rf"|<\|end_of_thought\|>\s*$|\[/THINK\]\s*$|#{{2,4}} ?(?:{_LABELS}|Response|Assistant):"
    r"|\n(?:Human|User|USER):|(?:\[EOS\]|<END>|<EOS>)\s*$"
)


def open_code_places(texts: polars.Series) -> polars.Series:
    """List the texts with an odd number of code fences; quick, and no open block of code is missed."""
    places = texts.str.contains(FENCE, literal=True).fill_null(value=False).arg_true()
    return places.filter(texts.gather(places).str.count_matches(FENCE, literal=True) % 2 == 1)


def find_broken_end(text: str) -> str:
    """Find what an answer leaves open, or what begins a turn of someone else in it."""
    if text.count(FENCE) % 2 and _has_open_code(text):
        return f"a block of code {NEVER_CLOSED}"
    said = CODE.sub(" ", text)
    opened = _OPENED.search(said)
    if opened:
        name = opened["name"]
        closing = f"</{name}>" if name else f"<|end_of_{opened['part']}|>"
        if closing not in said:
            return f"{opened['opened']} {NEVER_CLOSED}"
    if _ONLY_A_THOUGHT.fullmatch(said):
        return NO_ANSWER
    turn = _NEXT_TURN.search(said)
    if turn is None or (turn["said"] and _LABELLED_FROM_THE_START.match(said)):
        return ""
    return next(filter(None, turn.groups()))


def _has_open_code(text: str) -> bool:
    """Follow the fences as Markdown does; a last one with nothing in it closes what the prompt opened."""
    fences = list(_FENCE_LINE.finditer(text))
    opened: re.Match[str] | None = None
    for fence in fences:
        if opened is None:
            opened = fence
        elif not fence["language"].strip() and len(fence["ticks"]) >= len(opened["ticks"]):
            opened = None
    return bool(opened and len(fences) % 2 and text[opened.end() :].strip())
