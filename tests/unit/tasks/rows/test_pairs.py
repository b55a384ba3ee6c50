"""Pairs of rows that are nearly the same."""

from __future__ import annotations

import random

import numpy
import pytest

from tasks.rows._pairs import (
    are_ends_alike,
    estimated_similarities,
    join_labels,
    shared_buckets,
)


def joined(n_rows: int, pairs: list[tuple[int, int]]) -> list[int]:
    labels = numpy.arange(n_rows, dtype=numpy.uint32)
    left, right = (numpy.array(side, dtype=numpy.uint32) for side in zip(*pairs, strict=True))
    join_labels(labels, left, right)
    return labels.tolist()


def test_shared_buckets_leaves_single_rows_out() -> None:
    keys = numpy.array([7, 2**32 - 1, 7, 3, 2**32 - 1, 7], dtype=numpy.uint32)
    shared, rows = shared_buckets(keys, numpy.arange(6, dtype=numpy.uint32))
    assert shared.tolist() == [7, 7, 7, 2**32 - 1, 2**32 - 1]
    assert rows.tolist() == [0, 2, 5, 1, 4]


def test_shared_buckets_looks_at_the_given_rows_only() -> None:
    keys = numpy.array([7, 7, 7, 3, 3], dtype=numpy.uint32)
    _, rows = shared_buckets(keys, numpy.array([1, 2, 3], dtype=numpy.uint32))
    assert rows.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("pairs", "labels"),
    [
        ([(4, 2)], [0, 1, 2, 3, 2]),
        ([(3, 4), (2, 3), (1, 2), (0, 1)], [0, 0, 0, 0, 0]),
        ([(0, 4), (1, 3), (3, 4)], [0, 0, 2, 0, 0]),
        ([(2, 2)], [0, 1, 2, 3, 4]),
    ],
)
def test_join_labels_gives_the_smallest(pairs: list[tuple[int, int]], labels: list[int]) -> None:
    assert joined(5, pairs) == labels


def test_join_labels_agrees_with_a_search_row_by_row() -> None:
    draw = random.Random(5)
    pairs = [(draw.randrange(500), draw.randrange(500)) for _ in range(300)]
    expected = list(range(500))
    for _ in range(500):
        for left, right in pairs:
            expected[left] = expected[right] = min(expected[left], expected[right])
    assert joined(500, pairs) == expected


@pytest.mark.parametrize(("n_equal", "similarity"), [(128, 1.0), (64, 127 / 255), (0, -1 / 255)])
def test_estimated_similarities_allows_for_equality_by_chance(
    n_equal: int, similarity: float
) -> None:
    """(64/128 - 1/256) / (255/256) = 127/255."""
    left = numpy.arange(128, dtype=numpy.uint8)[None, :]
    right = left.copy()
    right[:, n_equal:] += 1
    assert estimated_similarities(left, right).tolist() == [pytest.approx(similarity)]


def ends_of(*texts: str) -> numpy.ndarray:
    """Lay a question out as its ends are, with an empty answer."""
    found = numpy.zeros((len(texts), 64), dtype=numpy.uint8)
    for row, text in enumerate(texts):
        said = [ord(word) for word in text.split()]
        found[row, : len(said[:16])] = said[:16]
        found[row, 32 - len(said[-16:]) : 32] = said[-16:]
    return found


@pytest.mark.parametrize(
    ("text", "other", "is_alike"),
    [
        ("", "", True),
        ("a", "", False),
        ("a", "b", False),
        ("a b c d", "a b c e", False),
        ("a b c d e", "a b c d f", True),
        ("a b c d e", "x a b c d e", True),
        ("a b c d e f g h i", "a b c d e f g x y", False),
        ("a b c d e f g h i j", "a b c d e f g h x y", True),
        (
            "a b c d e f g h i j k l m n o p q r s t",
            "a b c d e f g h i j k l m n o p w x y z",
            False,
        ),
    ],
)
def test_ends_are_alike_if_one_word_of_five_differs(text: str, other: str, is_alike: bool) -> None:
    some, others = ends_of(text, other)[:1], ends_of(text, other)[1:]
    assert are_ends_alike(some, others).tolist() == [is_alike]
    assert are_ends_alike(others, some).tolist() == [is_alike]
