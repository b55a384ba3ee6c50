from __future__ import annotations

from typing import Any

import numpy
import pytest

from tasks.dataset.repeats import (
    are_labels,
    are_phrasings,
    are_sampled,
    count_partners,
    cut_texts,
    repeats,
)


def hashes(*values: int) -> numpy.ndarray:
    return numpy.array(values, dtype=numpy.uint64)


@pytest.mark.parametrize(
    ("keys", "is_repeat", "earlier"),
    [
        ([], [], []),
        ([5], [False], [-1]),
        ([3, 1, 3, 3, 1], [False, False, True, True, True], [-1, -1, 0, 0, 1]),
        ([2, 2], [False, True], [-1, 0]),
        ([0, 2**64 - 1, 0], [False, False, True], [-1, -1, 0]),
    ],
)
def test_repeats_name_the_first_of_their_kind(keys: Any, is_repeat: Any, earlier: Any) -> None:
    marks, firsts = repeats(numpy.array(keys, dtype=numpy.uint64))
    assert (marks.tolist(), firsts.tolist()) == (is_repeat, earlier)


@pytest.mark.parametrize(
    ("keys", "partners", "expected"),
    [
        ([], [], []),
        ([1, 2], [5, 5], [1, 1]),
        ([1, 2, 1, 1], [5, 5, 6, 5], [2, 1, 2, 2]),
        ([9, 9, 9], [1, 2, 3], [3, 3, 3]),
        ([1, 2], [7, 7], [1, 1]),
    ],
)
def test_partners_that_differ_are_counted_for_each_row(
    keys: Any, partners: Any, expected: Any
) -> None:
    found = count_partners(
        numpy.array(keys, dtype=numpy.uint64), numpy.array(partners, dtype=numpy.uint64)
    )
    assert found.tolist() == expected


def test_labels_are_few_and_cover_nearly_all_rows() -> None:
    nothing = hashes(*[0] * 20)
    assert are_labels(hashes(*[1, 2, 3, 4] * 5), nothing).all()
    assert not are_labels(hashes(*range(20)), nothing).any()
    assert not are_labels(hashes(*[7] * 20), nothing).any(), "one answer for all is no label"
    mixed = are_labels(hashes(*[1, 2] * 5, *range(3, 13)), nothing)
    assert not mixed.any(), "half of the answers are free"
    assert are_labels(hashes(*[1, 2] * 9, 3, 4), nothing).tolist() == [True] * 18 + [False] * 2


def test_labels_of_one_context_count_there() -> None:
    answers = hashes(*[1, 2] * 8, *range(3, 19))
    contexts = hashes(*[5] * 16, *[6] * 16)
    assert are_labels(answers, contexts).tolist() == [True] * 16 + [False] * 16
    assert not are_labels(answers, hashes(*[5] * 32)).any()


def test_labels_of_one_context_are_not_mixed_up_with_equal_answers_of_another() -> None:
    answers = hashes(*[1, 2, 3, 4] * 4, *[1] * 16, *range(10, 50))
    contexts = hashes(*[5] * 16, *[6] * 16, *[7] * 40)
    assert are_labels(answers, contexts).tolist() == [True] * 16 + [False] * 56


@pytest.mark.parametrize(
    ("answers", "n_labels"),
    [
        ([1, 2] * 6, 12),
        ([1, 2] * 5 + [1], 0),  # 11 rows
        ([1, 2, 3, 4, 5, 6] * 2, 12),  # half as many answers as rows
        ([1, 2, 3, 4, 5, 6, 7] * 2 + [8], 0),
        ([1] * 18 + [2] * 2, 20),  # 90 % have one answer
        ([1] * 19 + [2], 0),
        ([1, 2] * 8 + [1, 3, 4, 5], 0),  # 17 of 20 come again
    ],
)
def test_labels_up_to_each_limit(answers: list[int], n_labels: int) -> None:
    assert are_labels(hashes(*answers), hashes(*[0] * len(answers))).sum() == n_labels


@pytest.mark.parametrize(("n_others", "is_label"), [(1188, True), (1189, False)])
def test_labels_of_a_context_that_is_a_hundredth_of_the_set(n_others: int, is_label: bool) -> None:
    answers = hashes(*[1, 2] * 6, *range(3, 3 + n_others))
    contexts = hashes(*[5] * 12, *[6] * n_others)
    assert are_labels(answers, contexts).tolist() == [is_label] * 12 + [False] * n_others


def test_labels_of_no_rows() -> None:
    assert are_labels(hashes(), hashes()).tolist() == []


@pytest.mark.parametrize(
    ("n_answers", "conclusions", "is_sampled"),
    [
        ([2, 2, 1, 1, 1], [4, 4, 0, 0, 0], [True, True, False, False, False]),
        ([2, 2, 1, 1, 1], [4, 5, 0, 0, 0], [False] * 5),
        ([2, 2, 1, 1, 1], [0, 0, 0, 0, 0], [False] * 5),
        ([4, 4, 1, 1, 1], [0, 0, 0, 0, 0], [True, True, False, False, False]),
        ([4, 4, 1, 1, 1], [0, 5, 0, 0, 0], [True, True, False, False, False]),
    ],
)
def test_sampled_answers_agree_or_are_many(
    n_answers: list[int], conclusions: list[int], is_sampled: list[bool]
) -> None:
    found = are_sampled(hashes(1, 1, 2, 3, 4), numpy.array(n_answers), hashes(*conclusions))
    assert found.tolist() == is_sampled


def test_free_answers_are_sampled_where_most_of_the_set_has_several() -> None:
    prompts, several = hashes(1, 1, 1, 2, 2, 2, 3), numpy.array([3, 3, 3, 3, 3, 3, 1])
    assert are_sampled(prompts, several, hashes(*[0] * 7)).tolist() == [True] * 6 + [False]
    contradicting = hashes(8, 9, 9, 0, 0, 0, 0)
    expected = [False] * 3 + [True] * 3 + [False]
    assert are_sampled(prompts, several, contradicting).tolist() == expected
    twice = numpy.array([2, 2, 2, 2, 2, 2, 1])
    assert not are_sampled(prompts, twice, hashes(*[0] * 7)).any(), "two may contradict each other"


def test_cut_texts_need_several_different_ones_and_none_just_below() -> None:
    texts = hashes(*range(6))
    assert cut_texts(numpy.array([255, 255, 255, 90, 80, 3]), texts).tolist() == [255] * 3 + [0] * 3
    assert not cut_texts(numpy.array([255, 255, 90, 90, 80, 3]), texts).any()
    many = hashes(*range(12))
    assert cut_texts(numpy.array([300] * 5 + [90, 80, 3, 2, 2, 2, 2]), many).any()
    assert not cut_texts(numpy.array([300] * 4 + [90, 80, 3, 2, 2, 2, 2, 2]), many).any()
    assert not cut_texts(numpy.array([300] * 9 + [80, 3, 2]), many).any(), "a template"
    assert cut_texts(numpy.array([255, 255, 255, 255, 80, 3]), texts).any(), "a usual limit"
    assert not cut_texts(numpy.array([25, 25, 25, 9, 8, 3]), texts).any()
    assert not cut_texts(numpy.array([255, 255, 255, 254, 254, 3]), texts).any()
    assert not cut_texts(numpy.array([255, 255, 255, 9, 8, 3]), hashes(1, 1, 1, 2, 3, 4)).any()
    assert cut_texts(numpy.array([], dtype=numpy.uint32), hashes()).tolist() == []


@pytest.mark.parametrize(
    ("lengths", "is_cut"),
    [
        ([200] * 5 + [1, 2, 3, 4, 5], True),  # half of the rows
        ([200] * 5 + [1, 2, 3, 4], False),
        ([199] * 5 + [1, 2, 3, 4, 5], False),
        ([255, 255, 255, 235, 235], False),  # 20 characters below count, 21 do not
        ([255, 255, 255, 234, 234], True),
        ([255, 255, 255, 254, 253, 252], True),  # one of each length
        ([255, 255, 255, 255, 254, 254], False),  # no more than twice as many
    ],
)
def test_cut_texts_up_to_each_limit(lengths: list[int], is_cut: bool) -> None:
    found = cut_texts(numpy.array(lengths), hashes(*range(len(lengths))))
    assert found.tolist() == [n * is_cut * (n == lengths[0]) for n in lengths]


@pytest.mark.parametrize(
    ("answers", "n_prompts", "expected"),
    [
        ([], [], []),
        ([1, 2, 3, 4, 5], [3, 12, 4, 5, 1], [True, True, True, True, False]),
        ([1, 2, 3, 4], [3, 12, 4, 2], [False] * 4),
        ([1, 2, 3, 4, 5], [3, 3, 3, 3, 13], [True, True, True, True, False]),
        ([1, 1, 1, 1], [4, 4, 4, 4], [False] * 4),
    ],
)
def test_phrasings_are_few_of_each_of_several_answers(
    answers: Any, n_prompts: Any, expected: Any
) -> None:
    found = are_phrasings(hashes(*answers), numpy.array(n_prompts, dtype=numpy.uint32))
    assert found.tolist() == expected
