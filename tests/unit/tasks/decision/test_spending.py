"""What each challenger may cost, and that all of them together cost no more than stated."""

from __future__ import annotations

import pytest

from schemas.config.gates import Against, GateDefinition
from schemas.records.decision import Challenge, GateResult, SeenRows
from schemas.rule_ids import Verdict
from tasks.decision.spending import (
    advise,
    can_promote,
    describe_challenge,
    describe_seen,
    spent_confidence,
)
from tasks.engine.wording import share


@pytest.mark.parametrize(
    ("row_set", "number", "level"),
    [(1, 1, 0.975), (1, 2, 1 - 0.05 / 6), (1, 7, 1 - 0.05 / 56), (2, 1, 1 - 0.05 / 6)],
)
def test_level_rises_with_challengers_and_sets_of_rows(
    row_set: int, number: int, level: float
) -> None:
    found = spent_confidence(0.95, Challenge(row_set=row_set, number=number))
    assert found == pytest.approx(level)


def test_all_challengers_on_one_set_spend_at_most_half_of_the_error() -> None:
    spent = [(1 - spent_confidence(0.9, Challenge(number=n))) / 2 for n in range(1, 5000)]
    assert 0.0499 < sum(spent) <= 0.05


def test_challengers_on_all_sets_spend_at_most_the_error() -> None:
    spent = [
        (1 - spent_confidence(0.9, Challenge(row_set=s, number=n))) / 2
        for s in range(1, 200)
        for n in range(1, 200)
    ]
    assert 0.098 < sum(spent) <= 0.1


def test_description_names_number_rows_and_level() -> None:
    level = share(spent_confidence(0.95, Challenge(number=7)))
    assert describe_challenge(Challenge(number=7), level) == (
        "challenger 7 on these rows, confidence 99.9 %"
    )
    assert describe_challenge(Challenge(row_set=2, number=1), "99.2 %") == (
        "challenger 1 on these rows (set 2 against this opponent), confidence 99.2 %"
    )


def test_advise_renews_rows_only_where_they_ask_for_less() -> None:
    assert advise([], Challenge(number=2)) == ""  # the first on a second set is asked for as much
    assert "2 challengers were compared" in advise([], Challenge(number=3))
    assert advise([], Challenge(row_set=2, number=1)) == ""


@pytest.mark.parametrize(
    ("verdict", "is_advised"), [(Verdict.FAILED, False), (Verdict.WARNED, True)]
)
def test_advise_is_given_only_where_the_number_alone_refused(
    verdict: Verdict, is_advised: bool
) -> None:
    passed = GateResult(
        id="a", metric="loss", against=Against.BASE, limit=0, verdict=Verdict.PASSED, reason=""
    )
    other = passed.model_copy(update={"verdict": verdict})
    assert bool(advise([passed, other], Challenge(number=9))) is is_advised


def test_advise_on_a_later_set_compares_with_the_next_one() -> None:
    # Set 2, number 2: 2 * 3 * 2 * 3 = 36; the first on set 3: 3 * 4 * 2 = 24.
    assert advise([], Challenge(row_set=2, number=2))
    # Set 3, number 1: 24; the first on set 4: 40.
    assert advise([], Challenge(row_set=3, number=1)) == ""


@pytest.mark.parametrize(
    ("metric", "against", "limit", "expected"),
    [
        ("loss", Against.BASE, 0.0, True),
        ("loss", Against.CHAMPION, 0.5, True),
        ("loss", Against.ABSOLUTE, 0.5, False),
        ("loss", Against.BASE, -0.1, False),
        ("prompt_dependence", Against.BASE, 0.0, False),
        ("loss/general", Against.BASE, 0.0, False),
    ],
)
def test_gain_in_a_gate_is_a_reason_to_promote(
    metric: str, against: Against, limit: float, expected: bool
) -> None:
    assert can_promote(GateDefinition("own", metric, against, limit)) is expected


def test_rows_that_a_model_has_seen_are_counted() -> None:
    assert describe_seen(SeenRows()) == ()
    seen = SeenRows(challenger=(1, 2), champion=(4,), unknown=("version 3",))
    assert describe_seen(seen) == (
        "the challenger was trained on 2 of the held-out rows, which are not compared",
        "the champion was trained on 1 of the held-out rows, which are not compared",
        "warning: the rows that version 3 was trained on are not known, so held-out rows may be "
        "among them",
    )
    assert len(describe_seen(SeenRows(champion=(4,)))) == 1
