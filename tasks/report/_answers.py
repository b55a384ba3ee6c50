"""The answers on the report's page: cut to keep the page small, and compared by words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any

MOST_ANSWERS = 200
"""On the page; `report.json` has all of them."""
MOST_CHARACTERS = 1200
"""Of one text while there are few answers."""
ALL_CHARACTERS = 600_000
"""Of all texts together: with their markup the page stays under 2 MB."""

MOST_WORDS = 400
"""Compared; the work grows with the square of it."""
_PIECE = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class ComparedAnswer:
    """One prompt with every role's answer."""

    prompt: str
    reference: str
    roles: dict[str, list[Stretch]]
    is_exact: dict[str, bool]
    """Role to whether the answer equals the reference."""


def compare_answers(
    answers: Sequence[Mapping[str, str]], roles: Sequence[str]
) -> list[ComparedAnswer]:
    """Compare the answers for the page.

    Args:
        answers: Prompt, reference and the answer of each role by its name.
        roles: Names of the roles.

    Returns:
        The first 200, each text cut to its share of the page.
    """
    shown = answers[:MOST_ANSWERS]
    n_texts = max(1, len(shown) * (2 + 2 * len(roles)))
    most = min(MOST_CHARACTERS, ALL_CHARACTERS // n_texts)
    return [
        ComparedAnswer(
            prompt=cut(answer["prompt"], most),
            reference=cut(answer["reference"], most),
            roles={
                role: _marked(cut(answer["reference"], most), cut(answer[role], most))
                for role in roles
            },
            is_exact={role: answer[role].strip() == answer["reference"].strip() for role in roles},
        )
        for answer in shown
    ]


def _marked(reference: str, answer: str) -> list[Stretch]:
    """Leave missing words out of an answer that agrees in less than half: both are unreadable."""
    stretches = diff_words(reference, answer)
    n_same = sum(len(one.text) for one in stretches if one.kind is Difference.SAME)
    if 2 * n_same >= len(answer):
        return stretches
    return [one for one in stretches if one.kind is not Difference.MISSING]


def cut(text: str, most: int = MOST_CHARACTERS) -> str:
    """Cut a text to `most` characters and add how many more there are."""
    left_out = len(text) - most
    return f"{text[:most]} … ({left_out:,} more characters)" if left_out > 0 else text


def judge_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count a judging model's verdicts.

    Args:
        rows: Lines of `judge_<role>.jsonl`.

    Returns:
        Rows with a verdict, won, lost and tied by the challenger; flips (the verdict followed position,
        not content) and unreadable replies.
    """
    verdicts = [set(row["verdicts"]) for row in rows]
    return {
        "rows": len(rows),
        "won": sum(row["win"] == 1 for row in rows),
        "lost": sum(row["win"] == 0 for row in rows),
        "tied": sum(0 < row["win"] < 1 for row in rows),
        "flips": sum(found == {"challenger", "opponent"} for found in verdicts),
        "unreadable_replies": sum(list(row["verdicts"]).count("unreadable") for row in rows),
    }


class Difference(StrEnum):
    """How a stretch of an answer relates to the reference."""

    SAME = "same"
    ADDED = "added"
    """In the answer, not in the reference."""
    MISSING = "missing"
    """In the reference, not in the answer."""


@dataclass(frozen=True)
class Stretch:
    """Words of one kind."""

    text: str
    kind: Difference


def diff_words(reference: str, answer: str) -> list[Stretch]:
    """Compare an answer with the reference.

    Args:
        reference: What was expected.
        answer: What the model wrote.

    Returns:
        Stretches in order; those same and added give the answer, those same and missing the
        reference. Beyond 400 pieces the rest is compared as one.
    """
    expected, expected_rest = _split(reference)
    written, written_rest = _split(answer)
    matcher = SequenceMatcher(None, expected, written, autojunk=False)
    stretches: list[Stretch] = []
    for _, start, end, first, last in matcher.get_opcodes():
        if expected[start:end] == written[first:last]:
            stretches.append(Stretch("".join(expected[start:end]), Difference.SAME))
            continue
        if start < end:
            stretches.append(Stretch("".join(expected[start:end]), Difference.MISSING))
        if first < last:
            stretches.append(Stretch("".join(written[first:last]), Difference.ADDED))
    if expected_rest == written_rest:
        stretches.append(Stretch(written_rest, Difference.SAME))
    else:
        stretches.append(Stretch(expected_rest, Difference.MISSING))
        stretches.append(Stretch(written_rest, Difference.ADDED))
    return [one for one in stretches if one.text]


def _split(text: str) -> tuple[list[str], str]:
    pieces = _PIECE.findall(text)
    return pieces[:MOST_WORDS], "".join(pieces[MOST_WORDS:])
