"""The answers on the report's page: cut so that the page stays small, and compared by words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks._word_diff import Difference, Stretch, diff_words

MOST_ANSWERS = 200
"""On the page; `report.json` has all of them."""
MOST_CHARACTERS = 1200
"""Of one text while there are few answers."""
ALL_CHARACTERS = 600_000
"""Of all texts together: with the marks round them the page stays under 2 MB."""


@dataclass(frozen=True)
class ComparedAnswer:
    """One prompt with every side's answer."""

    prompt: str
    reference: str
    sides: dict[str, list[Stretch]]
    is_exact: dict[str, bool]
    """Side to whether the whole answer is the reference."""


def compare_answers(
    answers: Sequence[Mapping[str, str]], sides: Sequence[str]
) -> list[ComparedAnswer]:
    """Lay the answers out for the page.

    Args:
        answers: Prompt, reference and the answer of each side by its name.
        sides: Names of the sides.

    Returns:
        The first 200, each text cut to its share of the page.
    """
    shown = answers[:MOST_ANSWERS]
    n_texts = max(1, len(shown) * (2 + 2 * len(sides)))
    most = min(MOST_CHARACTERS, ALL_CHARACTERS // n_texts)
    return [
        ComparedAnswer(
            prompt=cut(answer["prompt"], most),
            reference=cut(answer["reference"], most),
            sides={
                side: _marked(cut(answer["reference"], most), cut(answer[side], most))
                for side in sides
            },
            is_exact={side: answer[side].strip() == answer["reference"].strip() for side in sides},
        )
        for answer in shown
    ]


def _marked(reference: str, answer: str) -> list[Stretch]:
    """Leave missing words out of an answer that agrees in less than half: nobody could read both."""
    stretches = diff_words(reference, answer)
    n_same = sum(len(one.text) for one in stretches if one.kind is Difference.SAME)
    if 2 * n_same >= len(answer):
        return stretches
    return [one for one in stretches if one.kind is not Difference.MISSING]


def cut(text: str, most: int = MOST_CHARACTERS) -> str:
    """Shorten a text.

    Args:
        text: Any text.
        most: Characters that may stay.

    Returns:
        The text; cut off, it says how much is left out.
    """
    left_out = len(text) - most
    return f"{text[:most]} … ({left_out:,} more characters)" if left_out > 0 else text


def judge_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Sum up what a judging model said.

    Args:
        rows: Lines of `judge_<side>.jsonl`.

    Returns:
        Rows judged, won, lost and tied by the challenger; flips (the two orders contradict each
        other: the judge favours a place) and replies nobody could read.
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
