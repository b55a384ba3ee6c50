from __future__ import annotations

import pytest

import tasks._row_check
from schemas.rows import RowFormat, SourceRow
from schemas.rules import RowRule
from tasks._row_check import RowTally
from tests.toy import as_messages, toy_rows


def test_tally_counts_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks._row_check, "BATCH_ROWS", 2)
    plain = toy_rows(3)
    rows = [SourceRow("a", n, row) for n, row in enumerate([*plain, *as_messages(plain)], start=1)]
    tally = RowTally({})
    assert [checked.source.line for checked in tally.check(rows)] == [1, 2, 3, 4, 5, 6]
    assert (tally.n_rows, tally.n_kept_rows) == (6, 6)
    assert tally.first_format is RowFormat.PROMPT_COMPLETION
    assert tally.n_broken == {RowRule.MIXED_FORMAT: 3}
    assert tally.format_counts() == {"messages": 3, "prompt_completion": 3}


def test_at_most_five_places_are_shown() -> None:
    tally = RowTally({})
    assert len(list(tally.check(SourceRow("a", n, None) for n in range(1, 9)))) == 8
    [result] = tally.results()
    assert (result.n_rows, [e.line for e in result.examples]) == (8, [1, 2, 3, 4, 5])
