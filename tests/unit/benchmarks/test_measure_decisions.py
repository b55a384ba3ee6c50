"""A small version of the simulated retrains, decided by the product's own gates."""

from __future__ import annotations

import numpy
import pytest
from scipy import stats

from benchmarks.measure_decisions import (
    ALPHA,
    Judge,
    Rows,
    is_kept,
    levels,
    measure_false,
    measure_power,
    show,
)
from schemas.config.gates import GateConfig
from tasks.decision.intervals import score_columns, t_interval

N_HISTORIES, N_WEEKS = 40, 30


def test_equal_models_are_promoted_no_oftener_than_stated() -> None:
    judge = Judge()
    spent = measure_false(judge, N_HISTORIES, N_WEEKS, is_spent=True)
    assert spent["n_false"] <= stats.binom.ppf(0.999, N_HISTORIES, ALPHA / 2)
    assert judge.n_decided > 10  # some came near
    assert judge.wrongly_skipped == []


def test_without_spending_many_histories_promote_an_equal_model() -> None:
    found = measure_false(Judge(), 12, 120, is_spent=False)
    assert found["n_false"] >= 4  # more than half


def test_better_models_are_promoted_after_hundreds_of_challengers() -> None:
    found = measure_power(Judge(), 5, 261, 8.0, is_spent=True)
    assert found["promoted_within"]["4"] == 1.0


@pytest.mark.parametrize(("is_renewed", "most"), [(False, ALPHA / 2), (True, ALPHA)])
def test_levels_of_a_history_spend_no_more_than_the_error(is_renewed: bool, most: float) -> None:
    spent = [(1 - level) / 2 for level in levels(260, is_spent=True, is_renewed=is_renewed)]
    assert 0.9 * most < sum(spent) + (0.005 if is_renewed else 0)
    assert sum(spent) <= most


def test_t_values_are_those_of_the_gates_interval() -> None:
    generator = numpy.random.default_rng(3)
    rows = Rows.draw(generator)
    champion, challenger = rows.losses(generator, 2)
    [gain], [error] = rows.t_values(champion, challenger[None])
    groups = dict(enumerate(rows.groups.tolist()))
    columns = [*score_columns(rows.scores(champion), groups)]
    columns += score_columns(rows.scores(challenger), groups)

    def difference(nats: object, n: object, own: object, n_own: object, axis: int) -> object:
        return nats.sum(axis=axis) / n.sum(axis=axis) - own.sum(axis=axis) / n_own.sum(axis=axis)  # type: ignore[attr-defined]

    low, high = t_interval(columns, difference, GateConfig().confidence)
    reach = stats.t.isf(0.025, len(columns[0]) - 1) * error
    assert (low, high) == pytest.approx((gain - reach, gain + reach), rel=0.1, abs=0.01)


def test_results_are_shown_as_tables() -> None:
    false = {"n_histories": 40, "n_false": 1, "share": 0.025, "interval": (0.0, 0.1)}
    power = {"start": 27, "gain": 5.0, "is_spent": True, "promoted_within": {"1": 0.5}}
    text = show({"n_weeks": 9, "false_promotions": {"spent": false}, "power": [power]})
    assert "spent                       2.5% of 40, 95 % interval 0.0% to 10.0%" in text
    assert "from challenger 27       gain 5 errors    50%" in text


@pytest.mark.parametrize(
    ("spent", "renewed", "is_within"),
    [(0.02, 0.04, True), (0.03, 0.04, False), (0.02, 0.06, False)],
)
def test_each_part_is_compared_with_its_own_bound(
    spent: float, renewed: float, is_within: bool
) -> None:
    parts = {"spent": spent, "spent_rows_renewed": renewed, "not_spent": 0.9}
    false = {name: {"interval": (low, 1.0)} for name, low in parts.items()}
    assert is_kept({"false_promotions": false}) is is_within
