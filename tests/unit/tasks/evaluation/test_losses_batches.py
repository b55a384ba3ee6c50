"""Rows in batches."""

from __future__ import annotations

import pytest

from tasks.evaluation.losses import batches

pytestmark = pytest.mark.unit


def test_batches_cover_everything_once_and_in_order() -> None:
    assert list(batches([0, 1, 2, 3, 4], 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []
