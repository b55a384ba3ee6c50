from __future__ import annotations

import hashlib
from typing import Any

import numpy
import pytest

from schemas.config.run import SplitConfig
from schemas.errors import ConfigError
from tasks.dataset.split_rows import (
    Split,
    choose_splits,
    continued_rows,
    group_rows,
    keep_for_validation,
    prompt_position,
    splits_besides_pinned,
)


def test_position_is_the_hash_of_seed_and_prompt() -> None:
    digest = hashlib.sha256(b"7\n000000000000002a").hexdigest()
    assert prompt_position(42, 7) == int(digest[:16], 16) / 2**64
    assert 0 <= prompt_position(2**64 - 1, 0) < 1
    assert prompt_position(42, 8) != prompt_position(42, 7)


def test_rows_with_the_same_prompt_or_in_one_cluster_form_a_group() -> None:
    #        same prompt: 0, 3        cluster: 1, 2        chained through both: 4, 5, 6
    prompt = numpy.array([-1, -1, -1, 0, -1, 4, -1])
    cluster = numpy.array([0, 1, 1, 3, 4, 5, 5], dtype=numpy.uint32)
    assert group_rows(prompt, cluster).tolist() == [0, 1, 1, 0, 4, 4, 4]
    nothing = numpy.zeros(0, dtype=numpy.uint64)
    assert group_rows(nothing, nothing).tolist() == []


def test_row_is_found_that_another_continues() -> None:
    whole = numpy.array([9, 3, 7, 3, 5], dtype=numpy.uint64)
    continued = numpy.array([0, 9, 3, 2**64 - 1, 1], dtype=numpy.uint64)
    assert continued_rows(whole, continued).tolist() == [-1, 0, 1, -1, -1]
    nothing = numpy.zeros(0, dtype=numpy.uint64)
    assert continued_rows(nothing, nothing).tolist() == []


def placed(*wanted: float) -> Any:
    """Find prompts whose positions for seed 1 lie within 0.01 above the wanted ones."""
    found = []
    for least in wanted:
        found.append(
            next(key for key in range(10**5) if least <= prompt_position(key, 1) < least + 0.01)
        )
    return numpy.array(found, dtype=numpy.uint64)


def test_sides_are_chosen_by_position_and_surplus_is_not_used() -> None:
    prompt = placed(0.05, 0.5, 0.01, 0.08, 0.1)
    config = SplitConfig(eval_fraction=0.1, max_eval_rows=2)
    parts = choose_splits(numpy.arange(5), prompt, config, 1)
    assert parts.tolist() == [Split.EVAL, Split.TRAIN, Split.EVAL, Split.UNUSED, Split.TRAIN]


def test_first_row_of_a_group_decides_for_all() -> None:
    prompt = placed(0.05, 0.5, 0.01, 0.5)
    groups = numpy.array([0, 0, 2, 3])
    parts = choose_splits(groups, prompt, SplitConfig(eval_fraction=0.1), 1)
    assert parts.tolist() == [Split.EVAL, Split.EVAL, Split.EVAL, Split.TRAIN]
    turned = choose_splits(
        numpy.array([0, 0, 2, 3]), prompt[[1, 0, 2, 3]], SplitConfig(eval_fraction=0.1), 1
    )
    assert turned.tolist() == [Split.TRAIN, Split.TRAIN, Split.EVAL, Split.TRAIN]


@pytest.mark.parametrize(("fraction", "name"), [(0.1, "evaluation"), (0.9, "training")])
def test_empty_split_is_a_configuration_fault(fraction: float, name: str) -> None:
    prompt = placed(0.201, 0.6)
    lowest, highest = (prompt_position(int(key), 1) for key in prompt)
    with pytest.raises(ConfigError) as caught:
        choose_splits(numpy.arange(2), prompt, SplitConfig(eval_fraction=fraction), 1)
    assert caught.value.what == f"the split would leave no {name} row"
    assert caught.value.where == "split.eval_fraction"
    least, most = int(lowest * 1000 + 1) / 1000, int(highest * 1000) / 1000
    assert caught.value.fix == f"set split.eval_fraction to a value from {least:.3f} to {most:.3f}"
    for advised in (least, most):
        parts = choose_splits(numpy.arange(2), prompt, SplitConfig(eval_fraction=advised), 1)
        assert parts.tolist() == [Split.EVAL, Split.TRAIN]


def test_one_group_can_never_be_split() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_splits(numpy.array([0, 0]), placed(0.2, 0.2), SplitConfig(), 1)
    assert caught.value.fix == "add rows with other prompts"
    assert caught.value.got == "0.1 of 1 groups in 2 rows"


def test_groups_from_the_evaluation_fraction_on_are_kept_for_validation() -> None:
    prompt = placed(0.05, 0.5, 0.11, 0.19, 0.01)
    groups = numpy.array([0, 1, 2, 3, 4, 2])
    config = SplitConfig(eval_fraction=0.1, max_eval_rows=1, validation_fraction=0.05)
    parts = choose_splits(groups, prompt[[0, 1, 2, 3, 4, 1]], config, 1)
    assert parts.tolist() == [
        Split.UNUSED,
        Split.TRAIN,
        Split.VALIDATION,
        Split.TRAIN,
        Split.EVAL,
        Split.VALIDATION,
    ]


@pytest.mark.parametrize(("fraction", "name"), [(0.05, "validation"), (0.8, "training")])
def test_empty_side_through_validation_names_the_fraction_that_would_do(
    fraction: float, name: str
) -> None:
    prompt = placed(0.05, 0.3, 0.8)
    first, last = (prompt_position(int(key), 1) - 0.1 for key in prompt[1:])
    config = SplitConfig(eval_fraction=0.1, validation_fraction=fraction)
    with pytest.raises(ConfigError) as caught:
        choose_splits(numpy.arange(3), prompt, config, 1)
    assert caught.value.what == f"the split would leave no {name} row"
    assert caught.value.where == "split.validation_fraction"
    assert caught.value.got == f"{fraction:g} of 2 groups in 2 rows"
    least, most = int(first * 1000 + 1) / 1000, int(last * 1000) / 1000
    advice = f"set split.validation_fraction to a value from {least:.3f} to {most:.3f}"
    assert caught.value.fix == advice
    for advised in (least, most):
        better = config.model_copy(update={"validation_fraction": advised})
        parts = choose_splits(numpy.arange(3), prompt, better, 1)
        assert parts.tolist() == [Split.EVAL, Split.VALIDATION, Split.TRAIN]


def test_validation_needs_a_group_above_the_evaluation_fraction() -> None:
    parts = numpy.array([Split.EVAL, Split.TRAIN])
    with pytest.raises(ConfigError) as caught:
        keep_for_validation(
            parts,
            numpy.array([0.0, 0.05]),
            SplitConfig(eval_fraction=0.1, validation_fraction=0.5),
        )
    assert caught.value.fix == "add rows with other prompts"


def test_rows_like_a_pinned_one_are_neither_trained_nor_judged() -> None:
    #                      pinned: 0, 1
    groups = numpy.array([0, 1, 0, 3, 3, 1])
    assert splits_besides_pinned(groups, 2).tolist() == [
        Split.EVAL,
        Split.EVAL,
        Split.UNUSED,
        Split.TRAIN,
        Split.TRAIN,
        Split.UNUSED,
    ]
    with pytest.raises(ConfigError, match="none is left to train") as caught:
        splits_besides_pinned(numpy.array([0, 1, 0]), 2)
    assert caught.value.where == "split.pinned"
    assert caught.value.got == "2 pinned rows and 1 others"
