from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
from pydantic import ValidationError

from schemas.errors import DataSourceError
from schemas.rules.profile import (
    MOST_NAMES,
    OTHER_NAMES,
    DataProfile,
    build_profile,
    drift,
    log2_histogram,
    parse_profile,
    population_stability_index,
)


def profile_of(
    lengths: Any, languages: dict[str, int] | None = None, formats: dict[str, int] | None = None
) -> DataProfile:
    lengths = numpy.asarray(lengths, dtype="uint32")
    columns = {
        "prompt_characters": lengths,
        "answer_characters": lengths * 3,
        "n_messages": numpy.full(len(lengths), 2, dtype="uint32"),
    }
    n_rows = len(lengths)
    roles = {"user": n_rows, "assistant": n_rows}
    return build_profile(columns, roles, formats or {"messages": n_rows}, languages or {})


def sample(seed: int, n_rows: int, factor: float = 1.0) -> Any:
    """Lengths of real text are nearly log-normal: here a median of 150 and a wide spread."""
    generator = numpy.random.default_rng(seed)
    return numpy.exp(generator.normal(5, 1.2, n_rows)) * factor + 1


def test_log2_histogram_doubles_its_bins() -> None:
    values = numpy.array([0, 0, 1, 2, 3, 4, 7, 8, 8], dtype="uint32")
    # bins: 0, 1, 2-3, 4-7, 8-15
    assert log2_histogram(values) == (2, 1, 2, 2, 2)
    assert log2_histogram(values[:0]) == ()
    assert log2_histogram(values[:2]) == (2,)


@pytest.mark.parametrize("kind", ["int32", "uint32"])
def test_log2_histogram_holds_the_largest_number(kind: str) -> None:
    most = numpy.iinfo(kind).max
    counts = log2_histogram(numpy.array([1, most], dtype=kind))
    assert len(counts) == int(most).bit_length() + 1
    assert (counts[1], counts[-1], sum(counts)) == (1, 1, 2)


def test_population_stability_index_equals_the_figure_by_hand() -> None:
    # Smoothed by 0.5: 50.5/101 = 0.5 each, against 80.5/101 = 0.79703 and 20.5/101 = 0.20297;
    # 0.29703 * ln(1.59406) - 0.29703 * ln(0.40594) = 0.29703 * (0.46628 + 0.90155) = 0.40629
    assert population_stability_index([50, 50], [80, 20]) == pytest.approx(0.40629, abs=1e-5)
    assert population_stability_index([80, 20], [50, 50]) == pytest.approx(0.40629, abs=1e-5)


def test_population_stability_index_of_equal_shares_is_nought() -> None:
    assert population_stability_index([10, 20, 30], [10, 20, 30]) == 0
    assert population_stability_index([1000, 2000], [10_000, 20_000]) == pytest.approx(0, abs=1e-6)
    assert population_stability_index([], []) == 0


def test_population_stability_index_of_an_empty_bin_is_finite() -> None:
    # 100.5/101 and 0.5/101, the other way round: 2 * (100/101) * ln(201) = 10.5013
    index = population_stability_index([100, 0], [0, 100])
    assert index == pytest.approx(2 * 100 / 101 * math.log(201))


def test_build_profile_counts_rows_and_names() -> None:
    columns = {
        "prompt_characters": numpy.array([1, 5], dtype="uint32"),
        "answer_characters": numpy.array([0, 2], dtype="uint32"),
        "n_messages": numpy.array([2, 3], dtype="uint32"),
    }
    found = build_profile(columns, {"user": 2}, {"messages": 2}, {"en": 1}, "ab")
    assert found == DataProfile(
        n_rows=2,
        prompt_characters=(0, 1, 0, 1),
        answer_characters=(1, 0, 1),
        n_messages=(0, 0, 2),
        roles={"user": 2},
        formats={"messages": 2},
        languages={"en": 1},
        kept_sha256="ab",
    )


def test_build_profile_of_nothing_is_empty() -> None:
    assert build_profile({}, {}, {}, {}) == DataProfile(n_rows=0)


def test_profile_stays_small_and_comes_back_from_json() -> None:
    lengths = numpy.array([0, 1, 2**31], dtype="uint32").repeat(1_000_000)
    names = {f"a-rather-long-name-of-a-language-{number:04}": number + 1 for number in range(2000)}
    columns = dict.fromkeys(("prompt_characters", "answer_characters", "n_messages"), lengths)
    found = build_profile(columns, names, names, names, "f" * 64)
    assert len(found.languages) == MOST_NAMES + 1
    assert sum(found.languages.values()) == sum(names.values())
    assert found.languages[OTHER_NAMES] == 1950 * 1951 // 2
    text = found.model_dump_json()
    assert len(text) < 20_000
    assert parse_profile(text, "run 1") == found


def test_profile_is_immutable_and_takes_no_negative_counts() -> None:
    with pytest.raises(ValidationError):
        DataProfile(n_rows=-1)
    with pytest.raises(ValidationError):
        DataProfile(n_rows=1).n_rows = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"n_rows": "many"}', "n_rows: Input should be a valid integer"),
        ('{"n_rows": 1, "colour": 2}', "colour: Extra inputs are not permitted"),
    ],
)
def test_damaged_profile_is_refused_with_its_place(text: str, got: str) -> None:
    with pytest.raises(DataSourceError) as caught:
        parse_profile(text, "run 7, data_profile.json")
    assert caught.value.where == "run 7, data_profile.json"
    assert caught.value.got.startswith(got)
    assert caught.value.fix


@pytest.mark.parametrize(("n_before", "n_after"), [(10, 10), (40, 40), (40, 400), (1000, 100)])
def test_drift_does_not_fire_on_another_sample_of_the_same_data(
    n_before: int, n_after: int
) -> None:
    fired = 0
    for seed in range(300):
        before = profile_of(sample(seed, n_before))
        after = profile_of(sample(seed + 10_000, n_after))
        fired += drift(after, before)[1] > 0.25
    # Chance alone is allowed one in a thousand for each of the two lengths.
    assert fired <= 2


def test_drift_of_samples_by_row_and_of_the_same_rows_is_nought() -> None:
    rows = sample(1, 503)
    whole = profile_of(rows)
    assert drift(whole, whole)[1] == 0
    for seed in range(50):
        half = numpy.random.default_rng(seed).permutation(rows)[:250]
        assert drift(profile_of(half), whole)[1] <= 0.25


def test_drift_finds_texts_that_became_four_times_as_long() -> None:
    before = profile_of(sample(1, 400))
    feature, index = drift(profile_of(sample(2, 400, factor=4)), before)
    assert feature in ("prompt_characters", "answer_characters")
    assert index > 0.25


def test_drift_names_the_feature_that_moved() -> None:
    rows = sample(1, 1000)
    english, mixed = {"en": 1000}, {"en": 700, "de": 300}
    before = profile_of(rows, languages=english)
    feature, index = drift(profile_of(rows, languages=mixed), before)
    # 1.0 and 0.0 became 0.7 and 0.3; the smoothed index is 2.110, less 1 * 2/1000 of noise.
    assert feature == "languages"
    assert index == pytest.approx(
        population_stability_index([0, 1000], [300, 700]) - 2 / 1000, abs=1e-9
    )


def test_drift_does_not_count_a_rare_newcomer() -> None:
    rows = sample(1, 1000)
    before = profile_of(rows, languages={"en": 1000})
    after = profile_of(rows, languages={"en": 985, "de": 5, "fr": 5, "sv": 5})
    assert drift(after, before)[1] < 0.25


def test_drift_skips_features_that_one_side_lacks() -> None:
    rows = sample(1, 1000)
    with_languages = profile_of(rows, languages={"de": 1000})
    assert drift(profile_of(rows), with_languages)[1] == 0
    assert drift(DataProfile(n_rows=0), with_languages) == ("", 0.0)
    assert drift(with_languages, DataProfile(n_rows=0)) == ("", 0.0)


def test_drift_of_many_messages_counts_rows_not_messages() -> None:
    # 10 rows of 1,000 messages each: shares of 0.5 and 0.6 tell nothing, one row made them differ.
    before = DataProfile(n_rows=10, roles={"user": 5000, "tool": 5000})
    after = DataProfile(n_rows=10, roles={"user": 6000, "tool": 4000})
    assert drift(after, before) == ("roles", 0.0)


def test_drift_of_shorter_texts_takes_the_bins_that_are_missing_for_empty() -> None:
    before = DataProfile(n_rows=40, answer_characters=(10, 10, 10, 10))
    shorter, padded = (
        DataProfile(n_rows=40, answer_characters=bins) for bins in ((20, 20), (20, 20, 0, 0))
    )
    assert drift(shorter, before) == drift(padded, before) > ("", 0)
    assert drift(before, shorter) == drift(before, padded)
