from __future__ import annotations

from collections import Counter

import pytest

from schemas.errors import ConfigError
from schemas.rule_ids import RowRule, RuleExample, RuleSetting, Severity, Verdict
from schemas.rules.row_rules import ROW_RULES
from tasks.rows.check import BlockOutcome
from tasks.rows.tally import MOST_FIELDS, OTHER_FIELDS, RowTally

EMPTY = RowRule.CONTENT_EMPTY
PLACEHOLDER = RowRule.UNRENDERED_PLACEHOLDER


def places(*lines: int) -> list[RuleExample]:
    return [RuleExample(file="a.jsonl", line=line, detail="message 1") for line in lines]


def outcome(n_rows: int, *bad_lines: int) -> BlockOutcome:
    return BlockOutcome(
        n_rows=n_rows,
        n_kept_rows=n_rows - len(bad_lines),
        formats=Counter({"sharegpt": n_rows}),
        conversions=Counter({"sharegpt_to_messages": n_rows}),
        n_broken=Counter({EMPTY: len(bad_lines)}),
        examples={EMPTY: places(*bad_lines)} if bad_lines else {},
        first_quarantined=places(*bad_lines),
    )


def test_outcomes_are_summed_up() -> None:
    tally = RowTally({})
    first = outcome(10, 3, 4)
    assert tally.add(first) is first
    tally.add(BlockOutcome(n_rows=5, n_kept_rows=5, formats=Counter({"messages": 5})))
    tally.add(outcome(6, 19))
    assert (tally.n_rows, tally.n_kept_rows, tally.n_quarantined_rows) == (21, 18, 3)
    assert list(tally.format_counts().items()) == [("messages", 5), ("sharegpt", 16)]
    assert tally.conversions == {"sharegpt_to_messages": 16}
    assert [found.line for found in tally.first_quarantined] == [3, 4, 19]


def test_unused_fields_are_counted_and_their_names_are_fit_to_be_shown() -> None:
    tally = RowTally({})
    key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
    for names in ({"id": 3, "a\nb": 4}, {"id": 2, key: 1, "x" * 100: 1}):
        tally.add(BlockOutcome(n_rows=4, unused_fields=Counter(names)))
    found = tally.unused_field_counts()
    assert list(found.items())[:2] == [("id", 5), ("a\ufffdb", 4)]
    assert ("x" * 79 + "…") in found
    assert key not in str(found)
    assert sum(found.values()) == 11


def test_names_beyond_a_number_are_counted_together() -> None:
    tally = RowTally({})
    for first in (0, MOST_FIELDS // 2):
        names = [f"n{place}" for place in range(first, first + MOST_FIELDS)]
        tally.add(BlockOutcome(n_rows=1, unused_fields=Counter(names)))
    assert len(tally.unused_fields) == MOST_FIELDS + 1
    assert tally.unused_fields[OTHER_FIELDS] == MOST_FIELDS // 2
    assert tally.unused_fields.total() == 2 * MOST_FIELDS


def test_first_five_places_over_all_blocks_are_shown() -> None:
    tally = RowTally({})
    for lines in ((1, 2, 3), (11, 12, 13), (21,)):
        tally.add(outcome(10, *lines))
    [result] = tally.results()
    assert result.n_rows == 7
    assert [found.line for found in result.examples] == [1, 2, 3, 11, 12]
    assert [found.line for found in tally.first_quarantined] == [1, 2, 3, 11, 12]


def test_result_gives_count_share_places_and_fix() -> None:
    tally = RowTally({EMPTY: RuleSetting(limit=0.5)})
    tally.add(outcome(8, 2, 5))
    [result] = tally.results()
    assert (result.id, result.severity, result.verdict) == (EMPTY, Severity.BLOCK, Verdict.FAILED)
    assert (result.n_rows, result.fraction, result.observed, result.limit) == (2, 0.25, 0.25, 0.5)
    assert result.fix == ROW_RULES[EMPTY].fix
    assert result.examples == tuple(places(2, 5))


def test_results_stand_in_the_order_of_their_definition() -> None:
    tally = RowTally({})
    broken = Counter({PLACEHOLDER: 1, EMPTY: 1, RowRule.NOT_AN_OBJECT: 1})
    tally.add(BlockOutcome(n_rows=3, n_broken=broken, examples=dict.fromkeys(broken, places(1))))
    assert [result.id for result in tally.results()] == [RowRule.NOT_AN_OBJECT, EMPTY, PLACEHOLDER]
    assert tally.results()[2].verdict is Verdict.WARNED


def test_nothing_broken_gives_no_result() -> None:
    tally = RowTally({EMPTY: RuleSetting(limit=0)})
    assert tally.results() == ()
    tally.add(outcome(4))
    assert (tally.results(), tally.exceeded()) == ((), ())


@pytest.mark.parametrize(
    ("limit", "is_exceeded"), [(None, False), (0.25, False), (0.24, True), (0, True)]
)
def test_limit_of_a_rule_is_exceeded_beyond_it(limit: float | None, is_exceeded: bool) -> None:
    tally = RowTally({EMPTY: RuleSetting(limit=limit)})
    tally.add(outcome(8, 2, 5))
    assert [result.id for result in tally.exceeded()] == ([EMPTY] if is_exceeded else [])


def test_rule_that_warns_never_exceeds_its_limit() -> None:
    tally = RowTally({EMPTY: RuleSetting(severity=Severity.WARN, limit=0)})
    tally.add(outcome(8, 2, 5))
    assert [result.verdict for result in tally.results()] == [Verdict.WARNED]
    assert tally.exceeded() == ()


def test_setting_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="cannot be set to off"):
        RowTally({RowRule.MESSAGES_EMPTY: RuleSetting(severity=Severity.OFF)})
