from __future__ import annotations

from datasets import Dataset

from tasks.training.plan.shared_prefix import shared_prefix
from tests.support.prefixes import PREFIX, make_rows


def test_prefix_is_the_longest_that_all_rows_share() -> None:
    assert shared_prefix(make_rows()) == tuple(PREFIX)


def test_prefix_is_that_of_all_sets_together() -> None:
    assert shared_prefix(make_rows(), make_rows(prefix=[5, 6, 9, 8])) == (5, 6)
    assert shared_prefix(make_rows(), make_rows(prefix=[1])) == ()


def test_prefix_leaves_each_row_an_unlabelled_token_before_its_first_label() -> None:
    rows = Dataset.from_list(
        [
            {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
            {"input_ids": [1, 2, 3, 5], "labels": [-100, -100, -100, 5]},
        ]
    )
    assert shared_prefix(rows) == (1,)


def test_prefix_of_equal_rows_leaves_a_rest() -> None:
    rows = Dataset.from_list([{"input_ids": [1, 2], "labels": [-100, -100]}] * 2)
    assert shared_prefix(rows) == (1,)


def test_prefix_of_no_rows_is_empty() -> None:
    assert shared_prefix() == ()
