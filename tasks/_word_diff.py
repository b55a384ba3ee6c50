"""Where an answer differs from the reference, word by word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

MOST_WORDS = 400
"""Compared; the work grows with the square of it."""
_PIECE = re.compile(r"\s+|\w+|[^\w\s]")


class Difference(StrEnum):
    """How a stretch of an answer relates to the reference."""

    SAME = "same"
    ADDED = "added"
    """Stands in the answer, not in the reference."""
    MISSING = "missing"
    """Stands in the reference, not in the answer."""


@dataclass(frozen=True)
class Stretch:
    """Words that are alike in kind."""

    text: str
    kind: Difference


def diff_words(reference: str, answer: str) -> list[Stretch]:
    """Compare an answer with the reference.

    Args:
        reference: What was wanted.
        answer: What the model wrote.

    Returns:
        Stretches in order; those same and added give the answer, those same and missing the
        reference. Beyond 400 pieces the rest counts as it stands.
    """
    wanted, wanted_rest = _split(reference)
    written, written_rest = _split(answer)
    matcher = SequenceMatcher(None, wanted, written, autojunk=False)
    stretches: list[Stretch] = []
    for _, start, end, first, last in matcher.get_opcodes():
        if wanted[start:end] == written[first:last]:
            stretches.append(Stretch("".join(wanted[start:end]), Difference.SAME))
            continue
        if start < end:
            stretches.append(Stretch("".join(wanted[start:end]), Difference.MISSING))
        if first < last:
            stretches.append(Stretch("".join(written[first:last]), Difference.ADDED))
    if wanted_rest == written_rest:
        stretches.append(Stretch(written_rest, Difference.SAME))
    else:
        stretches.append(Stretch(wanted_rest, Difference.MISSING))
        stretches.append(Stretch(written_rest, Difference.ADDED))
    return [one for one in stretches if one.text]


def _split(text: str) -> tuple[list[str], str]:
    pieces = _PIECE.findall(text)
    return pieces[:MOST_WORDS], "".join(pieces[MOST_WORDS:])
