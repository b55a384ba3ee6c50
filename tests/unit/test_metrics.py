"""Every metric of an answer: a case that scores, and its neighbour that does not."""

from __future__ import annotations

import dataclasses

import pytest

from schemas.errors import MetricError
from schemas.metrics import (
    ANSWER_METRICS,
    DEFAULT_METRICS,
    AnswerFacts,
    Direction,
    MetricOptions,
    metric_direction,
)

pytestmark = pytest.mark.unit

FACTS = AnswerFacts(
    prompt="How wide?",
    reference="It must be 80 cm.",
    answer="It must be 80 cm.",
    n_answer_tokens=6,
    n_reference_tokens=8,
    is_stopped=True,
)
OPTIONS = MetricOptions(
    json_schema='{"type": "object", "required": ["width"]}', pattern=r"\b\d+ cm\b"
)
SWEDISH = "Dörren måste vara minst åttio centimeter bred i bostäder."
ENGLISH = "The door has to be at least eighty centimetres wide in homes."


def score(metric: str, **changes: object) -> float | None:
    facts = dataclasses.replace(FACTS, **changes)  # type: ignore[arg-type]
    return ANSWER_METRICS[metric].score(facts, OPTIONS)


@pytest.mark.parametrize(
    ("metric", "changes", "expected"),
    [
        ("exact_match", {"answer": "It must  be 80 cm.\n"}, 1),
        ("exact_match", {"answer": "it must be 80 cm."}, 0),
        ("number_match", {"answer": "80"}, 1),
        ("number_match", {"answer": "8"}, 0),
        ("number_match", {"reference": "wide"}, None),
        ("json_validity", {"answer": "{}"}, 1),
        ("json_validity", {"answer": "{"}, 0),
        ("json_schema_validity", {"answer": '{"width": 80}'}, 1),
        ("json_schema_validity", {"answer": "{}"}, 0),
        ("json_schema_validity", {"answer": "width"}, 0),
        ("regex_match", {}, 1),
        ("regex_match", {"answer": "80cm"}, 0),
        ("stop_rate", {}, 1),
        ("stop_rate", {"is_stopped": False}, 0),
        ("empty_rate", {"answer": " \n"}, 1),
        ("empty_rate", {}, 0),
        ("repetition_rate", {"answer": "a a a a a"}, 0.5),
        ("length_ratio", {}, 0.75),
        ("length_ratio", {"n_reference_tokens": 0}, None),
        ("language_match", {"answer": ENGLISH, "reference": ENGLISH}, 1),
        ("language_match", {"answer": SWEDISH, "reference": ENGLISH}, 0),
        ("language_match", {"answer": "80", "reference": ENGLISH}, 0),
        ("language_match", {"answer": ENGLISH, "reference": "80"}, None),
        ("mean_answer_tokens", {}, 6),
        ("chrf", {}, pytest.approx(1)),
        ("rouge_l", {}, 1),
        ("bleu", {}, pytest.approx(1)),
    ],
)
def test_metric_scores_an_answer(metric: str, changes: dict[str, object], expected: object) -> None:
    assert score(metric, **changes) == expected


def test_defaults_are_metrics_that_need_no_setting() -> None:
    assert set(DEFAULT_METRICS) <= ANSWER_METRICS.keys()
    bare = MetricOptions()
    for name in DEFAULT_METRICS:
        ANSWER_METRICS[name].score(FACTS, bare)


def test_only_sizes_have_no_better_direction() -> None:
    neutral = {name for name, one in ANSWER_METRICS.items() if one.direction is Direction.NONE}
    assert neutral == {"length_ratio", "mean_answer_tokens"}


def test_metric_direction() -> None:
    assert metric_direction("loss") is Direction.LOWER
    assert metric_direction("empty_rate") is Direction.LOWER
    assert metric_direction("length_ratio") is Direction.NONE
    assert metric_direction("one_of_my_own") is Direction.HIGHER


@pytest.mark.parametrize("ref", ["#/nowhere", "http://127.0.0.1:9/schema.json"])
def test_json_schema_that_refers_elsewhere_is_refused_and_nothing_fetched(ref: str) -> None:
    options = MetricOptions(json_schema=f'{{"$ref": "{ref}"}}')
    facts = dataclasses.replace(FACTS, answer="{}")
    with pytest.raises(MetricError, match="JSON Schema cannot be used"):
        ANSWER_METRICS["json_schema_validity"].score(facts, options)
