from __future__ import annotations

import numpy
import pytest

from schemas.rows.row import SourceRow
from tasks.sources.row_digests import count_changes, row_digest


def digests(*numbers: int) -> numpy.ndarray:
    return numpy.array(sorted(numbers), dtype=numpy.uint64)


def test_row_digest_depends_on_the_content_and_not_on_the_place() -> None:
    row = {"prompt": "Was?", "completion": "Das."}
    assert row_digest(SourceRow("a.jsonl", 1, row)) == row_digest(SourceRow("b.csv", 9, dict(row)))
    other = SourceRow("a.jsonl", 1, {"prompt": "Was?", "completion": "Dies."})
    assert row_digest(other) != row_digest(SourceRow("a.jsonl", 1, row))


def test_row_digest_tells_unreadable_rows_apart() -> None:
    broken = [SourceRow("a.jsonl", 1, unparseable=text) for text in ("not JSON: x", "not JSON: y")]
    assert row_digest(broken[0]) != row_digest(broken[1])


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (digests(1, 2, 3), digests(1, 2, 3), (0, 0)),
        (digests(1, 2, 3), digests(1, 2, 3, 4, 5), (2, 0)),
        (digests(1, 2, 3), digests(1), (0, 2)),
        (digests(1, 2), digests(1, 7), (1, 1)),
        (digests(1, 1, 2), digests(1, 2, 2), (1, 1)),
        (digests(), digests(4), (1, 0)),
        (digests(), digests(), (0, 0)),
        (digests(2**64 - 1), digests(2**64 - 2), (1, 1)),
    ],
)
def test_count_changes_counts_rows_that_came_and_went(
    before: numpy.ndarray, now: numpy.ndarray, expected: tuple[int, int]
) -> None:
    assert count_changes(before, now) == expected
