from __future__ import annotations

from collections import Counter

import numpy
import pytest

from tasks.training.process._epoch_rows import repeat_rows


def test_whole_weights_repeat_every_row() -> None:
    assert repeat_rows([1.0, 3.0, 2.0], 1).tolist() == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("weight", "n_rows", "n_taken"),
    [(0.5, 10, 5), (0.1, 10, 1), (0.04, 10, 1), (1.1, 10, 11), (2.5, 4, 10), (1.0, 3, 3)],
)
def test_fraction_is_drawn_in_exact_numbers(weight: float, n_rows: int, n_taken: int) -> None:
    rows = repeat_rows([weight] * n_rows, 7)
    assert len(rows) == n_taken
    times = {Counter(rows.tolist())[row] for row in range(n_rows)}
    assert times <= {int(weight), int(weight) + 1}


def test_rows_of_each_weight_are_drawn_by_themselves() -> None:
    rows = repeat_rows([0.5] * 4 + [2.0] * 2 + [1.5] * 4, 3)
    counts = Counter("abc"[(row > 3) + (row > 5)] for row in rows.tolist())
    assert counts == {"a": 2, "b": 4, "c": 6}
    assert rows.tolist() == sorted(rows.tolist())


def test_same_seed_draws_the_same_rows_and_another_seed_others() -> None:
    weights = numpy.full(100, 0.5, dtype=numpy.float32)
    first, again, other = (repeat_rows(weights, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == len(other) == 50


def test_no_rows_give_no_rows() -> None:
    assert repeat_rows([], 1).tolist() == []
