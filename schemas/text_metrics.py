"""What the metrics compute on texts: overlaps, numbers and repetitions, by their usual formulas."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"(?:(?<!\w)[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
"""A minus, also the typographic one, belongs to a number only where no word ends before it."""
_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*)\n```$", re.DOTALL)
REPEATED_WORDS = 4


def words(text: str) -> list[str]:
    """Split a text into words.

    Args:
        text: Any text.

    Returns:
        Runs of letters, digits and underscores, in lower case.
    """
    return _WORD.findall(text.lower())


def final_number(text: str) -> float | None:
    """Find the number an answer comes to.

    Source: GSM8K (Cobbe et al. 2021), whose answers end with `#### 42`; else the last number.

    Args:
        text: An answer; a comma before three digits parts thousands, any other parts numbers.

    Returns:
        The number; None when the text has none.
    """
    found = _NUMBER.findall(text.rpartition("####")[2]) or _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("\u2212", "-")) if found else None


def rouge_l(answer: str, reference: str) -> float | None:
    """Measure the longest common subsequence of words.

    F1 of LCS / words of the answer and LCS / words of the reference. Source: Lin 2004, ROUGE-L
    with beta 1; equal to the `rouge-score` package without stemming on English, while that package
    drops every other script and parts words at underscores.

    Args:
        answer: What the model said.
        reference: What it should have said.

    Returns:
        0 to 1; None when the reference has no word.
    """
    ours, theirs = words(answer), words(reference)
    if not theirs:
        return None
    return 2 * _longest_common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def _longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    lengths = [0] * (len(other) + 1)
    for word in one:
        above_left = 0
        for place, candidate in enumerate(other, 1):
            above = lengths[place]
            is_equal = word == candidate
            lengths[place] = above_left + 1 if is_equal else max(above, lengths[place - 1])
            above_left = above
    return lengths[-1]


def chrf(answer: str, reference: str) -> float | None:
    """Measure the overlap of character n-grams.

    chrF2 of one sentence: n-grams of 1 to 6 characters, recall weighs twice. Source: Popović
    2015; computed by sacrebleu.

    Args:
        answer: What the model said.
        reference: What it should have said.

    Returns:
        0 to 1 (sacrebleu's figure over 100); None when the reference is empty.
    """
    from sacrebleu.metrics.chrf import CHRF

    if not reference.strip():
        return None
    return float(CHRF().sentence_score(answer, [reference]).score) / 100


def bleu(answer: str, reference: str) -> float | None:
    """Measure the overlap of word n-grams.

    BLEU of one sentence: geometric mean of the precisions of 1 to 4 words with exponential
    smoothing, times the brevity penalty; orders longer than the sentence are left out. Source:
    Papineni et al. 2002; computed by sacrebleu. The mean over rows is not corpus BLEU.

    Args:
        answer: What the model said.
        reference: What it should have said.

    Returns:
        0 to 1 (sacrebleu's figure over 100); None when the reference is empty.
    """
    from sacrebleu.metrics.bleu import BLEU

    if not reference.strip():
        return None
    return float(BLEU(effective_order=True).sentence_score(answer, [reference]).score) / 100


def parse_json(text: str) -> tuple[bool, Any]:
    """Read an answer as JSON.

    Args:
        text: The answer; one Markdown fence around the whole of it is taken off.

    Returns:
        Whether it is one JSON document (RFC 8259: no NaN), and its value.
    """
    fenced = _FENCE.match(text.strip())
    try:
        return True, json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False, None


def _refuse(name: str) -> None:
    raise ValueError(name)


def repetition(text: str) -> float:
    """Measure how much of a text says the same again.

    Share of its 4-word runs that occurred in it before: 1 - distinct / all. Source: Welleck
    et al. 2020, seq-rep-4.

    Args:
        text: An answer.

    Returns:
        0 (no repetition, or fewer than 4 words) to nearly 1.
    """
    found = words(text)
    runs = [
        tuple(found[place : place + REPEATED_WORDS])
        for place in range(len(found) - REPEATED_WORDS + 1)
    ]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
