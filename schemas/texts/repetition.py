"""Find answers that end in a loop: the same words over and over, as models write that lost the thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars

PROBE_CHARACTERS = 16
LEAST_CHARACTERS = 80
"""That the loop has in all; a song repeats its refrain in less."""
LEAST_TIMES = 5
LEAST_TIMES_OF_LINES = 10
LEAST_CHARACTERS_OF_LINES = 400
"""One of both, for whole lines: refrains and timetables repeat theirs."""
LEAST_SAME_CHARACTERS = 200
MOST_LOOKED_AT = 40_000
_WORD = re.compile(r"[^\W\d_]{2,}|[\u3040-\u9fff]")
_SAME = re.compile(r"[^\W\d_]|[!?,;:'\"。，！？…]")
"""Rows of dashes, dots and other signs separate; rows of digits are numbers."""
_NUMBERING = re.compile(
    r"^[ \t]*(?:[(\[]?[0-9]{1,4}[.):\]]|[Ss]tep [0-9]{1,4}[.:])[ \t]*", re.MULTILINE
)
_SEPARATORS = " \t\r\n-*|.,;:_=#"


def may_loop(texts: polars.Series) -> polars.Series:
    """Mark the texts whose last characters occur earlier too; quick, and no text with a loop is missed."""
    import polars

    found = (texts.str.len_bytes() >= LEAST_CHARACTERS).fill_null(value=False)
    text = polars.col("text").str.strip_chars_end()
    comes_again = text.str.head(-PROBE_CHARACTERS).str.contains(
        text.str.tail(PROBE_CHARACTERS), literal=True
    )
    long = polars.DataFrame({"text": texts.filter(found)}).select(comes_again).to_series()
    return found.scatter(found.arg_true(), long)


def find_loop(text: str) -> str:
    """Find words that a text repeats at its end, at least five times in a row; numbered lines too."""
    tail = text.rstrip()[-MOST_LOOKED_AT:]
    last = tail[-1:]
    if tail.endswith(last * LEAST_SAME_CHARACTERS) and _SAME.match(last):
        return f"{last!r} {len(tail) - len(tail.rstrip(last))} times at the end"
    found = _loop_of_words(tail)
    is_numbered = not found and _NUMBERING.match(tail, tail.rfind("\n") + 1)
    return _loop_of_words(_NUMBERING.sub("", tail)) if is_numbered else found


def _loop_of_words(tail: str) -> str:
    reversed_tail = tail[::-1]
    for period in _periods(reversed_tail):
        length = _repeated_length(reversed_tail, period)
        unit = tail[len(tail) - period :]
        # Five copies have only four separators.
        length += period - len(unit.lstrip(_SEPARATORS))
        n_times = (length + period // 2) // period
        is_long = length >= max(LEAST_TIMES * period, LEAST_CHARACTERS)
        if "\n" in unit:
            is_long &= n_times >= LEAST_TIMES_OF_LINES or length >= LEAST_CHARACTERS_OF_LINES
        if is_long and _WORD.search(unit):
            words = " ".join(unit.split())
            return f"{words[:40]!r} {n_times} times at the end"
    return ""


def _periods(reversed_text: str) -> list[int]:
    """List the distances at which the end of the text occurs again, smallest first."""
    probe = reversed_text[:PROBE_CHARACTERS]
    found, place = [], reversed_text.find(probe, 1)
    most = len(reversed_text) // (LEAST_TIMES - 1)
    while 0 < place <= most:
        found.append(place)
        place = reversed_text.find(probe, place + 1)
    return found[:8]


def _repeated_length(text: str, period: int) -> int:
    """Count the characters from the start that equal those one period later, and the period itself."""
    length = period
    step = 256
    while length < len(text):
        part = text[length : length + step]
        if part == text[length - period : length - period + len(part)]:
            length += len(part)
        elif step > 1:
            step //= 2
        else:
            break
    return length
