"""Which held-out sets are nearly the same, from the sketches in the tags."""

from __future__ import annotations

import random

import pytest

from tasks.registry.challenges import MAX_SKETCH_ROWS, make_sketch, shared_fraction


def digests(n_rows: int, seed: int = 1) -> list[int]:
    generator = random.Random(seed)
    return [generator.getrandbits(64) for _ in range(n_rows)]


@pytest.mark.parametrize("n_shared", [0, 1, 50, 51, 100])
def test_small_sets_are_compared_exactly(n_shared: int) -> None:
    one, other = digests(100), digests(100, seed=2)
    assert len(make_sketch(one)) < 1200
    mixed = one[:n_shared] + other[n_shared:]
    assert shared_fraction(make_sketch(one), make_sketch(mixed)) == n_shared / 100


def test_the_smaller_set_counts() -> None:
    rows = digests(200)
    assert shared_fraction(make_sketch(rows), make_sketch(rows[:20])) == 1
    assert shared_fraction(make_sketch(rows[:20]), make_sketch(rows)) == 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_large_sets_are_estimated(share: float) -> None:
    one, other = digests(5000), digests(5000, seed=2)
    mixed = one[: int(share * 5000)] + other[int(share * 5000) :]
    assert shared_fraction(make_sketch(one), make_sketch(mixed)) == pytest.approx(share, abs=0.1)


def test_a_sketch_that_is_cut_is_compared_with_one_that_is_not() -> None:
    rows = digests(5000)
    few = rows[:100] + digests(100, seed=2)
    # Of the few rows, about 256 / 5,000 are among those that the long sketch can know.
    assert len(set(rows)) > MAX_SKETCH_ROWS
    assert 0 <= shared_fraction(make_sketch(rows), make_sketch(few)) <= 1
    assert shared_fraction(make_sketch(rows), make_sketch(rows[:600])) > 0.9


@pytest.mark.parametrize("text", ["", "%%%", "abc"])
def test_what_is_no_sketch_shares_nothing(text: str) -> None:
    assert shared_fraction(text, make_sketch(digests(9))) == 0
    assert shared_fraction(text, text) == 0
