from __future__ import annotations

import math
from datetime import timedelta

import pytest

from tasks.engine.wording import (
    age,
    duration,
    gibibytes,
    interval,
    mebibytes,
    number,
    share,
    signed_interval,
    signed_number,
    span,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (12, "12"),
        (1234567, "1,234,567"),
        (4.0, "4"),
        (3.22891, "3.229"),
        (-3.22891, "-3.229"),
        (0.775, "0.775"),
        (0.1, "0.100"),
        (0.05, "0.05"),
        (0.0123456, "0.0123"),
        (-0.000123456, "-0.000123"),
        (1e-7, "1e-07"),
        (999.5, "999.500"),
        (1234.5678, "1,235"),
        (-30000.0, "-30,000"),
        (2.34567e20, "2.346e+20"),
    ],
)
def test_number_has_three_decimals_and_never_hides_a_small_value(
    value: float | None, text: str
) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (3, "+3"),
        (0.77512, "+0.775"),
        (-0.00412, "-0.00412"),
        (math.nan, "NaN"),
        (-math.inf, "-inf"),
        (1e12, "+1e+12"),
    ],
)
def test_signed_number_has_a_sign_unless_it_is_zero(value: float | None, text: str) -> None:
    assert signed_number(value) == text


def test_interval_names_both_ends() -> None:
    assert interval(0.25, 1.0) == "[0.250, 1]"
    assert interval(None, 1.0) == "-"
    assert signed_interval(-0.25, 0.0125) == "[-0.250, +0.0125]"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0, "0 %"),
        (0.05, "5 %"),
        (1e-6, "< 0.001 %"),
        (0.99999, "99.999 %"),
        (1, "100 %"),
        (1 - 7.4e-7, "99.99992 %"),
        (0.9996, "99.96 %"),
    ],
)
def test_share_never_rounds_to_nothing_or_all(fraction: float, text: str) -> None:
    assert share(fraction) == text


def test_bytes_have_one_unit() -> None:
    assert gibibytes(3 * 2**29) == "1.50 GiB"
    assert mebibytes(1500 * 2**20) == "1,500.0 MiB"


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.96, "10.0 s"), (61, "1 min 1 s"), (3600 * 2 + 180, "2 h 3 min")]
)
def test_duration_is_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (300, "5 min"), (9000, "2.5 h")])
def test_span_has_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("minutes", "text"), [(119, "119 min"), (121, "2 h"), (48 * 60, "2 days")])
def test_age_is_rounded_down(minutes: int, text: str) -> None:
    assert age(timedelta(minutes=minutes)) == text
