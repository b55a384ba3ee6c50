"""What the metrics compute on texts, by hand."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import MetricError
from schemas.metrics import (
    ANSWER_METRICS,
    DEFAULT_METRICS,
    AnswerFacts,
    Direction,
    MetricOptions,
    bleu,
    chrf,
    final_number,
    is_of_all_rows,
    is_of_retention,
    is_per_token,
    is_safeguard,
    metric_direction,
    parse_json,
    repetition,
    rouge_l,
    words,
)

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


def test_words_are_lower_case_runs_of_letters_and_digits() -> None:
    assert words("Dörr-bredd: 80 cm!") == ["dörr", "bredd", "80", "cm"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She pays 5 + 7 = 12.\n#### 12", 12.0),
        ("first 3, then 1,250.50 crowns.", 1250.5),
        ("it is -4", -4.0),
        ("#### none, but 7 before", 7.0),
        ("it takes 80.", 80.0),
        ("between 10-12", 12.0),
        ("it is \u22125", -5.0),
        ("one of 1,2,3", 3.0),
        ("12,345 in all", 12345.0),
        ("12,3456", 3456.0),
        ("a chance of .5", 0.5),
        ("no figure", None),
        ("", None),
    ],
)
def test_final_number(text: str, number: float | None) -> None:
    assert final_number(text) == number


def test_rouge_l_is_the_f1_of_the_common_subsequence() -> None:
    # Common: police the gunman, 3 of 4 words on either side.
    assert rouge_l("police kill the gunman", "police killed the gunman") == 0.75
    assert rouge_l("the gunman police killed", "police killed the gunman") == 0.5
    assert rouge_l("", "a") == 0
    assert rouge_l("a", "...") is None


def test_chrf_of_hand_counted_n_grams() -> None:
    # "ab" against "abc": precisions 1, 1; recalls 2/3, 1/2; higher orders have no n-gram.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    expected = 5 * precision * recall / (4 * precision + recall)
    assert chrf("ab", "abc") == pytest.approx(expected, rel=1e-4)
    assert chrf("same", "same") == pytest.approx(1)
    assert chrf("x", " ") is None


def test_bleu_of_hand_counted_n_grams() -> None:
    assert bleu("a b c d", "a b c d") == pytest.approx(1)
    # 3 of 4, 2 of 3, 1 of 2 and, smoothed, 1/2 of 1 n-grams; as long as the reference.
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
    assert bleu("a b c d", "a b c e") == pytest.approx(expected, rel=1e-6)
    assert bleu("a", "") is None


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        ('{"a": 1}', True),
        ('```json\n{"a": 1}\n```', True),
        ('Here: {"a": 1}', False),
        ("NaN", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_parse_json(text: str, is_json: bool) -> None:
    assert parse_json(text)[0] is is_json


def test_repetition_counts_runs_of_four_words_seen_before() -> None:
    assert repetition("a b c d") == 0
    assert repetition("a a a a a a") == pytest.approx(2 / 3)  # three runs, one distinct
    assert repetition("too short") == 0


@settings(max_examples=100, deadline=None)
@given(answer=st.text(max_size=60), reference=st.text(max_size=60))
def test_overlaps_lie_between_0_and_1_and_are_1_for_equal_texts(
    answer: str, reference: str
) -> None:
    for metric in (rouge_l, chrf, bleu):
        value = metric(answer, reference)
        assert value is None or 0 <= value <= 1 + 1e-9
    assert rouge_l(reference, reference) in (1.0, None)
    assert 0 <= repetition(answer) < 1


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
    assert metric_direction("prompt_dependence") is Direction.HIGHER
    assert metric_direction("loss/general") is Direction.LOWER
    assert metric_direction("expected/safety") is Direction.HIGHER


def test_safeguards_are_dependence_and_the_retention_sets() -> None:
    found = ("prompt_dependence", "loss/general", "expected/safety")
    assert [is_safeguard(name) for name in found] == [True, True, True]
    assert [is_of_retention(name) for name in found] == [False, True, True]
    assert [is_per_token(name) for name in found] == [True, True, False]
    assert [is_of_all_rows(name) for name in (*found, "chrf")] == [True, True, True, False]
    assert not is_safeguard("loss")
    assert is_per_token("loss")


@pytest.mark.parametrize("ref", ["#/nowhere", "http://127.0.0.1:9/schema.json"])
def test_json_schema_that_refers_elsewhere_is_refused_and_nothing_fetched(ref: str) -> None:
    options = MetricOptions(json_schema=f'{{"$ref": "{ref}"}}')
    facts = dataclasses.replace(FACTS, answer="{}")
    with pytest.raises(MetricError, match="JSON Schema cannot be used"):
        ANSWER_METRICS["json_schema_validity"].score(facts, options)
