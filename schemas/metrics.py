"""Metrics of answers: what each measures, its unit, which direction is better, and its function.

To add one: a line in the table `_METRICS`, and above it a function if it needs one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import MetricError
from schemas.texts.language import detect_languages


class Direction(StrEnum):
    """Which values are better; a metric without direction only describes."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"


PROMPT_DEPENDENCE = "prompt_dependence"
TOKEN_METRICS: dict[str, Direction] = {
    "loss": Direction.LOWER,
    "perplexity": Direction.LOWER,
    "token_accuracy": Direction.HIGHER,
    PROMPT_DEPENDENCE: Direction.HIGHER,
}
"""Measured on the tokens of the reference answers, weighted by tokens."""

LOSS_PREFIX = "loss/"
"""Before the name of a retention set: its loss."""
EXPECTED_PREFIX = "expected/"
"""Before the name of a retention set: the share of its answers that are as the rows expect."""


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """One answer and what it is compared with."""

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
    """What some metrics need in addition to the answer."""

    json_schema: str | None = None
    """Text of a JSON Schema."""
    pattern: str | None = None
    """Regular expression."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A value of one answer; for a set of answers the mean over the rows that have it."""

    id: str
    unit: str
    direction: Direction
    meaning: str
    """For the page of metrics: formula and source in a line."""
    score: Callable[[AnswerFacts, MetricOptions], float | None]
    """None: the metric does not apply to the row, e.g. its reference contains no number."""


_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"(?:(?<!\w)[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
"""A minus, also the typographic one, belongs to a number only where no word ends before it."""
_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*)\n```$", re.DOTALL)
REPEATED_WORDS = 4


def words(text: str) -> list[str]:
    """Return the runs of letters, digits and underscores, in lower case."""
    return _WORD.findall(text.lower())


def final_number(text: str) -> float | None:
    """Find the number an answer ends with; None if it has none.

    Source: GSM8K (Cobbe et al. 2021), whose answers end with `#### 42`; else the last number. A
    comma before three digits separates thousands, any other separates numbers.
    """
    found = _NUMBER.findall(text.rpartition("####")[2]) or _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("\u2212", "-")) if found else None


def number_match(facts: AnswerFacts) -> float | None:
    """Compare the final numbers; None if the reference has none."""
    expected = final_number(facts.reference)
    return None if expected is None else final_number(facts.answer) == expected


def rouge_l(answer: str, reference: str) -> float | None:
    """Measure the longest common subsequence (LCS) of words; None if the reference has no word.

    F1 of LCS / words of the answer and LCS / words of the reference. Source: Lin 2004, ROUGE-L
    with beta 1; equal to the `rouge-score` package without stemming on English, while that package
    drops every other script and splits words at underscores.
    """
    ours, theirs = words(answer), words(reference)
    if not theirs:
        return None
    lengths = [0] * (len(theirs) + 1)
    for word in ours:
        above_left = 0
        for place, candidate in enumerate(theirs, 1):
            above = lengths[place]
            is_equal = word == candidate
            lengths[place] = above_left + 1 if is_equal else max(above, lengths[place - 1])
            above_left = above
    return 2 * lengths[-1] / (len(ours) + len(theirs))


def chrf(answer: str, reference: str) -> float | None:
    """Measure the overlap of character n-grams, 0 to 1; None if the reference is empty.

    chrF2 of one sentence: n-grams of 1 to 6 characters, recall weighs twice. Source: Popović
    2015; computed by sacrebleu, whose value is divided by 100.
    """
    from sacrebleu.metrics.chrf import CHRF

    if not reference.strip():
        return None
    return float(CHRF().sentence_score(answer, [reference]).score) / 100


def bleu(answer: str, reference: str) -> float | None:
    """Measure the overlap of word n-grams, 0 to 1; None if the reference is empty.

    BLEU of one sentence: geometric mean of the precisions of 1 to 4 words with exponential
    smoothing, times the brevity penalty; orders longer than the sentence are left out. Source:
    Papineni et al. 2002; computed by sacrebleu. The mean over rows is not corpus BLEU.
    """
    from sacrebleu.metrics.bleu import BLEU

    if not reference.strip():
        return None
    return float(BLEU(effective_order=True).sentence_score(answer, [reference]).score) / 100


def repetition(text: str) -> float:
    """Measure how repetitive a text is, 0 to nearly 1; 0 with fewer than 4 words.

    Share of its 4-word runs that occurred in it before: 1 - distinct / all. Source: Welleck
    et al. 2020, seq-rep-4.
    """
    found = words(text)
    n_runs = len(found) - REPEATED_WORDS + 1
    runs = [tuple(found[place : place + REPEATED_WORDS]) for place in range(n_runs)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def parse_json(text: str) -> tuple[bool, Any]:
    """Return whether an answer is one JSON document (RFC 8259: no NaN), and its value.

    One Markdown fence around the answer is removed.
    """
    fenced = _FENCE.match(text.strip())
    try:
        return True, json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False, None


def _refuse(name: str) -> None:
    raise ValueError(name)


def json_schema_validity(facts: AnswerFacts, options: MetricOptions) -> float:
    """Validate against the schema without network access: an empty registry has no address.

    Args:
        facts: The answer.
        options: With `json_schema`.

    Returns:
        1 for JSON that the schema accepts.

    Raises:
        MetricError: The schema refers to another file.
    """
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
            fix="put the referenced schema under $defs of the file",
        ) from error


def length_ratio(facts: AnswerFacts) -> float | None:
    """Divide the tokens of the answer by those of the reference; None if it has none."""
    return facts.n_answer_tokens / facts.n_reference_tokens if facts.n_reference_tokens else None


def language_match(facts: AnswerFacts) -> float | None:
    """Compare the languages; None if that of the reference is not certain."""
    answer, reference = detect_languages([facts.answer, facts.reference])
    return None if reference is None else answer == reference


UP, DOWN, NONE = Direction.HIGHER, Direction.LOWER, Direction.NONE
_METRICS = (
    Metric("exact_match", "fraction", UP, "equal to the reference except for white space",
           lambda row, _: row.answer.split() == row.reference.split()),
    Metric("number_match", "fraction", UP,
           "ends with the reference's number (GSM8K); only rows whose reference has one",
           lambda row, _: number_match(row)),
    Metric("chrf", "fraction", UP, "chrF2 of each answer, Popović 2015, by sacrebleu",
           lambda row, _: chrf(row.answer, row.reference)),
    Metric("rouge_l", "fraction", UP, "F1 of the longest common subsequence of words, Lin 2004",
           lambda row, _: rouge_l(row.answer, row.reference)),
    Metric("bleu", "fraction", UP, "BLEU of each answer, Papineni et al. 2002, by sacrebleu",
           lambda row, _: bleu(row.answer, row.reference)),
    Metric("json_validity", "fraction", UP, "one JSON document; a Markdown fence around it is allowed",
           lambda row, _: parse_json(row.answer)[0]),
    Metric("json_schema_validity", "fraction", UP, "JSON that `evaluation.json_schema` accepts",
           json_schema_validity),
    Metric("regex_match", "fraction", UP, "`evaluation.pattern` is found in it",
           lambda row, options: re.search(options.pattern or "", row.answer) is not None),
    Metric("stop_rate", "fraction", UP, "ended by the model, not by `evaluation.max_new_tokens`",
           lambda row, _: row.is_stopped),
    Metric("empty_rate", "fraction", DOWN, "nothing but white space",
           lambda row, _: not row.answer.strip()),
    Metric("repetition_rate", "fraction", DOWN,
           "runs of 4 words that occurred in the answer before, Welleck et al. 2020",
           lambda row, _: repetition(row.answer)),
    Metric("length_ratio", "ratio", NONE, "tokens of the answer over tokens of the reference",
           lambda row, _: length_ratio(row)),
    Metric("language_match", "fraction", UP,
           "in the language of the reference; only rows where that is certain",
           lambda row, _: language_match(row)),
    Metric("mean_answer_tokens", "tokens", NONE, "tokens of the answer",
           lambda row, _: row.n_answer_tokens),
)  # fmt: skip
ANSWER_METRICS: dict[str, Metric] = {metric.id: metric for metric in _METRICS}
DEFAULT_METRICS = (
    "exact_match", "chrf", "rouge_l", "stop_rate", "empty_rate", "repetition_rate",
    "length_ratio", "language_match", "mean_answer_tokens",
)  # fmt: skip
"""Cheap, and useful for any answer."""


def is_per_token(name: str) -> bool:
    """Return whether a metric is weighted by tokens, so that only one tokenizer's values compare."""
    return name in TOKEN_METRICS or name.startswith(LOSS_PREFIX)


def is_of_all_rows(name: str) -> bool:
    """Return whether a metric does not depend on how many held-out prompts are answered."""
    return name in TOKEN_METRICS or is_of_retention(name)


def is_safeguard(name: str) -> bool:
    """Return whether a metric only shows what training must not lose.

    A gain in it is no reason to promote a model.
    """
    return name == PROMPT_DEPENDENCE or is_of_retention(name)


def is_of_retention(name: str) -> bool:
    """Return whether a metric is of a set in `evaluation.retention`, and not of the held-out rows."""
    return name.startswith((LOSS_PREFIX, EXPECTED_PREFIX))


def metric_direction(name: str) -> Direction:
    """Return which values are better; higher ones for custom, task and judge metrics."""
    if name in TOKEN_METRICS:
        return TOKEN_METRICS[name]
    if name.startswith(LOSS_PREFIX):
        return Direction.LOWER
    return ANSWER_METRICS[name].direction if name in ANSWER_METRICS else Direction.HIGHER
