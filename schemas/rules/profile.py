"""Profile of a dataset: a few kilobytes to compare the next dataset with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt, ValidationError

from schemas.base import Record
from schemas.errors import DataSourceError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

HISTOGRAMS = ("prompt_characters", "answer_characters", "n_messages")
MOST_NAMES = 50
"""Names of each kind; rarer ones are counted together, so that a profile stays small."""
Pair = tuple[int, int]
"""Counts of one bin: in the reference, and now."""
OTHER_NAMES = "(other)"
SMOOTHING = 0.5
"""Added to each count before shares are computed, so that an empty bin has a logarithm (Jeffreys)."""
LEAST_SHARE = 0.05
"""Bins with less than this share, on average of both sets, are merged: their index is mostly noise."""
NOISE_DEVIATE = 3.0902
"""Standard normal quantile of 0.999: one comparison in a thousand is beyond the noise by chance."""


class DataProfile(Record):
    """Distributions of a dataset; `drift` compares two of them."""

    n_rows: NonNegativeInt
    prompt_characters: tuple[NonNegativeInt, ...] = ()
    """Rows per length of the prompt in fixed bins: 0, 1, 2-3, 4-7, 8-15 and so on."""
    answer_characters: tuple[NonNegativeInt, ...] = ()
    """Rows per length of the answer, in the same bins."""
    n_messages: tuple[NonNegativeInt, ...] = ()
    """Rows per number of messages, in the same bins."""
    roles: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Messages per role."""
    formats: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Rows per recognised format."""
    languages: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Sampled rows per detected language."""
    kept_sha256: str = ""
    """Of the rows that were kept, if they were written."""


def build_profile(
    columns: Mapping[str, NDArray[numpy.generic]],
    roles: Mapping[str, int],
    formats: Mapping[str, int],
    languages: Mapping[str, int],
    kept_sha256: str = "",
) -> DataProfile:
    """Summarise a dataset in under 20 KB of JSON.

    `columns` has whole numbers per kept row, `roles` counts messages, `formats` rows, and
    `languages` sampled rows. A missing column is left out of the profile.
    """
    histograms = {name: log2_histogram(columns[name]) for name in HISTOGRAMS if name in columns}
    return DataProfile(
        n_rows=max((sum(counts) for counts in histograms.values()), default=0),
        **histograms,
        roles=_most_frequent(roles),
        formats=_most_frequent(formats),
        languages=_most_frequent(languages),
        kept_sha256=kept_sha256,
    )


def parse_profile(text: str | bytes, where: str) -> DataProfile:
    """Read a profile that a run wrote.

    Args:
        text: JSON.
        where: Place of the text, for the message.

    Returns:
        The profile.

    Raises:
        DataSourceError: The text is not a profile.
    """
    try:
        return DataProfile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataSourceError(
            "the data profile cannot be read",
            where=where,
            expected="the JSON of a data profile, with n_rows and histograms",
            got=f"{place}: {first['msg']}" if place else str(first["msg"]),
            fix="use the profile of another run, or set quality.reference=none",
        ) from None


def log2_histogram(values: NDArray[numpy.generic]) -> tuple[int, ...]:
    """Count whole numbers of shape (rows,) in bins that double in width: 0, 1, 2-3, 4-7 and so on.

    Counts go up to the last bin that is not empty; there are none without values.
    """
    import numpy

    if not len(values):
        return ()
    # One narrow comparison per bin: a logarithm would copy millions of values to float64.
    n_bins = int(values.max()).bit_length() + 1
    counts = [numpy.count_nonzero(values >= 1 << bit) for bit in range(n_bins - 1)]
    at_least = [len(values), *(int(count) for count in counts), 0]
    return tuple(at_least[bit] - at_least[bit + 1] for bit in range(n_bins))


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    order = sorted(counts, key=lambda name: (-counts[name], name))
    kept = {name: counts[name] for name in order[:MOST_NAMES]}
    rest = sum(counts[name] for name in order[MOST_NAMES:])
    return {**kept, OTHER_NAMES: rest} if rest else kept


def population_stability_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Measure how far one distribution has moved from another: 0 for equal shares, else more.

    Formula: sum over the bins of (a - e) * ln(a / e), with e and a the shares of a bin in the
    expected and the actual counts, (count + 0.5) / (total + 0.5 * bins). Unit: nats. By custom
    below 0.1 is no shift, 0.1 to 0.25 a moderate one, above 0.25 a significant one.

    Source: N. Siddiqi, Credit Risk Scorecards, Wiley 2006; it is the symmetric divergence of
    Jeffreys (1946).
    """
    n_expected = sum(expected) + SMOOTHING * len(expected)
    n_actual = sum(actual) + SMOOTHING * len(actual)
    index = 0.0
    for before, after in zip(expected, actual, strict=True):
        share_before = (before + SMOOTHING) / n_expected
        share_after = (after + SMOOTHING) / n_actual
        index += (share_after - share_before) * math.log(share_after / share_before)
    return index


def drift(profile: DataProfile, reference: DataProfile) -> tuple[str, float]:
    """Return the feature that moved most against a reference beyond chance, and its corrected index.

    Two samples of the same data differ too: over B bins and n and m rows their index is spread
    like (1/n + 1/m) times a chi-square variable of B - 1 degrees. An index within its 0.999
    quantile counts as 0, and its mean, (B - 1)(1/n + 1/m), is subtracted from any other. The name
    is empty if nothing can be compared.

    Source: B. Yurdakul, Statistical Properties of Population Stability Index, Western Michigan
    University 2018.
    """
    indices = {}
    for name, bins in _compared(profile, reference):
        before, after = [pair[0] for pair in bins], [pair[1] for pair in bins]
        # Messages of one row are not independent, so there are at most as many draws as rows.
        n_before, n_after = min(sum(before), reference.n_rows), min(sum(after), profile.n_rows)
        if n_before and n_after:
            index = population_stability_index(before, after)
            indices[name] = _beyond_noise(index, len(bins), 1 / n_before + 1 / n_after)
    worst = max(indices, key=lambda name: indices[name], default="")
    return worst, indices.get(worst, 0.0)


def _beyond_noise(index: float, n_bins: int, spread: float) -> float:
    """Subtract from an index what two samples of the same data would show."""
    degrees = n_bins - 1
    if not degrees:
        return 0.0
    # Wilson and Hilferty (1931): the cube root of a chi-square variable is nearly normal.
    third = 2 / (9 * degrees)
    highest = degrees * (1 - third + NOISE_DEVIATE * math.sqrt(third)) ** 3
    return max(0.0, index - degrees * spread) if index > highest * spread else 0.0


def _compared(profile: DataProfile, reference: DataProfile) -> Iterator[tuple[str, list[Pair]]]:
    """Yield the counts of each feature in the reference and now, in bins wide enough to compare."""
    for name in HISTOGRAMS:
        before, after = getattr(reference, name), getattr(profile, name)
        yield name, _merge_neighbours(list(zip_longest(before, after, fillvalue=0)))
    for name in ("roles", "formats", "languages"):
        before, after = getattr(reference, name), getattr(profile, name)
        names = sorted({*before, *after})
        yield name, _merge_rare([(before.get(key, 0), after.get(key, 0)) for key in names])


def _shares(pairs: Sequence[Pair]) -> list[float]:
    n_before, n_after = (max(1, sum(pair[side] for pair in pairs)) for side in (0, 1))
    return [(before / n_before + after / n_after) / 2 for before, after in pairs]


def _merge_neighbours(pairs: Sequence[Pair]) -> list[Pair]:
    merged: list[Pair] = []
    waiting, waiting_share = (0, 0), 0.0
    for pair, share in zip(pairs, _shares(pairs), strict=True):
        waiting, waiting_share = _add(waiting, pair), waiting_share + share
        if waiting_share >= LEAST_SHARE:
            merged.append(waiting)
            waiting, waiting_share = (0, 0), 0.0
    if any(waiting):
        merged.append(_add(merged.pop(), waiting) if merged else waiting)
    return merged


def _merge_rare(pairs: Sequence[Pair]) -> list[Pair]:
    merged: list[Pair] = []
    rest = (0, 0)
    for pair, share in zip(pairs, _shares(pairs), strict=True):
        if share >= LEAST_SHARE:
            merged.append(pair)
        else:
            rest = _add(rest, pair)
    return [*merged, rest] if any(rest) else merged


def _add(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]
