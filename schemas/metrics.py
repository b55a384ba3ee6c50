"""The metrics: what each measures, in which unit, which direction is better, and its function."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import MetricError
from schemas.texts.language import detect_languages

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"(?:(?<!\w)[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
"""A minus, also the typographic one, belongs to a number only where no word ends before it."""
_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*)\n```$", re.DOTALL)
REPEATED_WORDS = 4


class Direction(StrEnum):
    """Which figures are better; a metric without direction only describes."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """One answer and what it is held against."""

    prompt: str
    """Text of the last turn before the answer, as the user wrote it."""
    reference: str
    answer: str
    n_answer_tokens: int
    n_reference_tokens: int
    is_stopped: bool
    """The model ended the answer itself."""


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """What some metrics need beside the answer."""

    json_schema: str | None = None
    """Text of a JSON Schema."""
    pattern: str | None = None
    """Regular expression."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of one answer; of a set it is the mean over the rows that have it."""

    id: str
    unit: str
    direction: Direction
    meaning: str
    """For the page of metrics: formula and source in a line."""
    score: Callable[[AnswerFacts, MetricOptions], float | None]
    """None: the metric does not apply to the row, e.g. its reference holds no number."""


TOKEN_METRICS: dict[str, Direction] = {
    "loss": Direction.LOWER,
    "perplexity": Direction.LOWER,
    "token_accuracy": Direction.HIGHER,
}
"""Measured on the tokens of the reference answers, weighted by tokens."""


def _number_match(facts: AnswerFacts) -> float | None:
    expected = final_number(facts.reference)
    return None if expected is None else final_number(facts.answer) == expected


def _json_schema_validity(facts: AnswerFacts, options: MetricOptions) -> float:
    """Judge without fetching anything: a registry of one's own knows no address."""
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    is_json, value = parse_json(facts.answer)
    schema = json.loads(options.json_schema or "{}")
    try:
        return is_json and validator_for(schema)(schema, registry=Registry()).is_valid(value)
    except Unresolvable as error:
        raise MetricError(
            "the JSON Schema cannot be used",
            where="evaluation.json_schema",
            expected="references to parts of the same file",
            got=f"$ref to {error.ref}, which is not in it",
            fix="put what is referred to under $defs of the file",
        ) from error


def _length_ratio(facts: AnswerFacts) -> float | None:
    return facts.n_answer_tokens / facts.n_reference_tokens if facts.n_reference_tokens else None


def _language_match(facts: AnswerFacts) -> float | None:
    answer, reference = detect_languages([facts.answer, facts.reference])
    return None if reference is None else answer == reference


UP, DOWN, NONE = Direction.HIGHER, Direction.LOWER, Direction.NONE
_METRICS = (
    Metric(
        "exact_match", "fraction", UP, "equal to the reference but for white space",
        lambda row, _: row.answer.split() == row.reference.split(),
    ),
    Metric(
        "number_match", "fraction", UP,
        "ends with the reference's number (GSM8K); only rows whose reference has one",
        lambda row, _: _number_match(row),
    ),
    Metric(
        "chrf", "fraction", UP, "chrF2 of each answer, Popović 2015, by sacrebleu",
        lambda row, _: chrf(row.answer, row.reference),
    ),
    Metric(
        "rouge_l", "fraction", UP, "F1 of the longest common subsequence of words, Lin 2004",
        lambda row, _: rouge_l(row.answer, row.reference),
    ),
    Metric(
        "bleu", "fraction", UP, "BLEU of each answer, Papineni et al. 2002, by sacrebleu",
        lambda row, _: bleu(row.answer, row.reference),
    ),
    Metric(
        "json_validity", "fraction", UP, "one JSON document; a Markdown fence around it is allowed",
        lambda row, _: parse_json(row.answer)[0],
    ),
    Metric(
        "json_schema_validity", "fraction", UP, "JSON that `evaluation.json_schema` accepts",
        _json_schema_validity,
    ),
    Metric(
        "regex_match", "fraction", UP, "`evaluation.pattern` is found in it",
        lambda row, options: re.search(options.pattern or "", row.answer) is not None,
    ),
    Metric(
        "stop_rate", "fraction", UP, "ended by the model, not by `evaluation.max_new_tokens`",
        lambda row, _: row.is_stopped,
    ),
    Metric(
        "empty_rate", "fraction", DOWN, "nothing but white space",
        lambda row, _: not row.answer.strip(),
    ),
    Metric(
        "repetition_rate", "fraction", DOWN,
        "runs of 4 words that occurred in the answer before, Welleck et al. 2020",
        lambda row, _: repetition(row.answer),
    ),
    Metric(
        "length_ratio", "ratio", NONE, "tokens of the answer over tokens of the reference",
        lambda row, _: _length_ratio(row),
    ),
    Metric(
        "language_match", "fraction", UP,
        "in the language of the reference; only rows whose reference tells its language",
        lambda row, _: _language_match(row),
    ),
    Metric(
        "mean_answer_tokens", "tokens", NONE, "tokens of the answer",
        lambda row, _: row.n_answer_tokens,
    ),
)  # fmt: skip
ANSWER_METRICS: dict[str, Metric] = {metric.id: metric for metric in _METRICS}
DEFAULT_METRICS = (
    "exact_match",
    "chrf",
    "rouge_l",
    "stop_rate",
    "empty_rate",
    "repetition_rate",
    "length_ratio",
    "language_match",
    "mean_answer_tokens",
)
"""Cheap, and of use for any answer."""


def metric_direction(name: str) -> Direction:
    """Tell which figures of a metric are better.

    Args:
        name: A metric; one of the user's own, a task's and a judge's are better when higher.

    Returns:
        The direction.
    """
    if name in TOKEN_METRICS:
        return TOKEN_METRICS[name]
    return ANSWER_METRICS[name].direction if name in ANSWER_METRICS else Direction.HIGHER


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
