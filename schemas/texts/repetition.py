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
MOST_LOOKED_AT = 8000
_WORD = re.compile(r"[^\W\d_]{2,}|[\u3040-\u9fff]")


def may_loop(texts: polars.Series) -> polars.Series:
    """Mark the texts whose last characters occur earlier too; quick, and no text with a loop is missed."""
    import polars

    text = polars.col("text").str.strip_chars_end()
    is_long = text.str.len_bytes() >= LEAST_CHARACTERS
    comes_again = text.str.head(-PROBE_CHARACTERS).str.contains(
        text.str.tail(PROBE_CHARACTERS), literal=True
    )
    frame = polars.DataFrame({"text": texts}).select((is_long & comes_again).fill_null(value=False))
    return frame.to_series()


def find_loop(text: str) -> str:
    """Find words that a text repeats at its end, at least five times in a row."""
    tail = text.rstrip()[-MOST_LOOKED_AT:]
    reversed_tail = tail[::-1]
    for period in _periods(reversed_tail):
        length = _repeated_length(reversed_tail, period)
        unit = tail[len(tail) - period :]
        if length >= max(LEAST_TIMES * period, LEAST_CHARACTERS) and _WORD.search(unit):
            words = " ".join(unit.split())
            return f"{words[:40]!r} {(length + period // 2) // period} times at the end"
    return ""


def _periods(reversed_text: str) -> list[int]:
    """List the distances at which the end of the text occurs again, smallest first."""
    probe = reversed_text[:PROBE_CHARACTERS]
    found, place = [], reversed_text.find(probe, 1)
    most = len(reversed_text) // LEAST_TIMES
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
