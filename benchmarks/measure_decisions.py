"""Simulate years of weekly retrains, decided by the product's own gates: false promotions, and power.

Usage: python -m benchmarks.measure_decisions [--histories 600] [--weeks 260]. A history is one
champion and a challenger every week, on held-out rows of which some share a prompt. In the first part
all models are equally good in truth, so each promotion is false; in the second every challenger from
some week on is truly better. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy
from scipy import stats

from schemas.config.gates import Against, GateConfig, GateDefinition
from schemas.records.decision import Challenge, Decision
from tasks.decide import conclude
from tasks.decision.gates import comparison_gate
from tasks.decision.intervals import RowScores
from tasks.decision.spending import spent_confidence

if TYPE_CHECKING:
    from numpy import float64
    from numpy.random import Generator
    from numpy.typing import NDArray

GATES = GateConfig()
ALPHA = 1 - GATES.confidence
BOUNDS = {"spent": ALPHA / 2, "spent_rows_renewed": ALPHA}
"""Of the share of histories with a false promotion: of one set of rows, and of all sets."""
GATE = GateDefinition("loss_below_champion", "loss", Against.CHAMPION)
N_GROUPS = 100
FREEDOM = 5
"""Of Student's t, from which the effects of models on rows are drawn: some rows change very much."""
GROUP_EFFECT, ROW_EFFECT = 0.15, 0.15
"""Spread of a model's loss, in nats per token, on the rows of a prompt together and on each alone."""
SURELY_REFUSED = 0.6
"""Decisions whose t is below this part of what is needed are not computed in full, but sampled."""
SAMPLED = 50
"""Of so many decisions that are surely refused, one is computed in full."""
RENEWED_WEEKS = 26
STARTS = (1, 27, 105, 261)
"""Number of the first better challenger: at once, after half a year, two and five years."""
GAINS = (3.0, 4.0, 5.0, 6.0, 8.0)
"""True gains, in standard errors of one comparison."""
WITHIN_WEEKS = (1, 4, 13, 26)


@dataclass
class Rows:
    """Held-out rows: their prompts and tokens."""

    groups: NDArray[numpy.int64]
    n_tokens: NDArray[float64]

    @classmethod
    def draw(cls, generator: Generator) -> Rows:
        """Draw prompts with one to several rows each."""
        sizes = generator.geometric(0.5, N_GROUPS).clip(max=8)
        groups = numpy.repeat(numpy.arange(N_GROUPS), sizes)
        return cls(groups, generator.integers(10, 200, len(groups)).astype(float))

    def losses(self, generator: Generator, n_models: int) -> NDArray[float64]:
        """Draw the losses of equally good models, in nats per token; shape (models, rows)."""
        common = GROUP_EFFECT * generator.standard_t(FREEDOM, (n_models, N_GROUPS))
        alone = ROW_EFFECT * generator.standard_t(FREEDOM, (n_models, len(self.groups)))
        return 3 + common[:, self.groups] + alone

    def scores(self, losses: NDArray[float64]) -> RowScores:
        """Return losses as the gates read them."""
        pairs = zip((losses * self.n_tokens).tolist(), self.n_tokens.tolist(), strict=True)
        return dict(enumerate(pairs))

    def t_values(
        self, champion: NDArray[float64], challengers: NDArray[float64]
    ) -> tuple[NDArray[float64], NDArray[float64]]:
        """Compute gain and standard error of each challenger, over groups."""
        nats = (champion - challengers) * self.n_tokens
        gain = nats.sum(axis=1) / self.n_tokens.sum()
        rest = nats - gain[:, None] * self.n_tokens
        sums = numpy.zeros((len(nats), N_GROUPS))
        for group in range(N_GROUPS):
            sums[:, group] = rest[:, self.groups == group].sum(axis=1)
        error = numpy.sqrt((sums**2).sum(axis=1) * N_GROUPS / (N_GROUPS - 1))
        return gain, error / self.n_tokens.sum()


@dataclass
class Judge:
    """Decides by the product's gates, except where a promotion is out of reach."""

    n_decided: int = 0
    n_skipped: int = 0
    n_sampled: int = 0
    wrongly_skipped: list[float] = field(default_factory=list)
    """t values of skipped decisions that a full one would promote; must stay empty."""

    def is_promoted(
        self, rows: Rows, pair: tuple[NDArray[float64], NDArray[float64]], t: float, level: float
    ) -> bool:
        """Decide about one challenger (second of the pair) against the champion (first)."""
        needed = float(stats.t.isf((1 - level) / 2, N_GROUPS - 1))
        if t < SURELY_REFUSED * needed:
            self.n_skipped += 1
            if self.n_skipped % SAMPLED == 0 and t > 0:
                self.n_sampled += 1
                if self._decide(rows, pair, level):
                    self.wrongly_skipped.append(t)
            return False
        self.n_decided += 1
        return self._decide(rows, pair, level)

    def _decide(
        self, rows: Rows, pair: tuple[NDArray[float64], NDArray[float64]], level: float
    ) -> bool:
        gates = GATES.model_copy(update={"confidence": level})
        groups = dict(enumerate(rows.groups.tolist()))
        scores = [rows.scores(losses) for losses in pair]
        gate = comparison_gate(GATE, scores[0], scores[1], gates, groups)
        return conclude([gate])[0] is Decision.PROMOTE


def levels(n_weeks: int, *, is_spent: bool, is_renewed: bool) -> Iterator[float]:
    """Yield the level of each week's decision."""
    for week in range(n_weeks):
        if not is_spent:
            yield GATES.confidence
            continue
        every = RENEWED_WEEKS if is_renewed else n_weeks
        challenge = Challenge(row_set=week // every + 1, number=week % every + 1)
        yield spent_confidence(GATES.confidence, challenge)


def has_false_promotion(
    generator: Generator, judge: Judge, n_weeks: int, *, is_spent: bool, is_renewed: bool
) -> bool:
    """Play one history of equally good models, until one is promoted."""
    every = RENEWED_WEEKS if is_renewed else n_weeks
    level = levels(n_weeks, is_spent=is_spent, is_renewed=is_renewed)
    for start in range(0, n_weeks, every):
        rows = Rows.draw(generator)
        n_models = min(every, n_weeks - start) + 1
        champion, *challengers = rows.losses(generator, n_models)
        gain, error = rows.t_values(champion, numpy.array(challengers))
        for losses, t in zip(challengers, (gain / error).tolist(), strict=True):
            if judge.is_promoted(rows, (champion, losses), t, next(level)):
                return True
    return False


def measure_false(
    judge: Judge, n_histories: int, n_weeks: int, *, is_spent: bool, is_renewed: bool = False
) -> dict[str, Any]:
    """Count the histories in which a model that is no better was promoted."""
    n_false = sum(
        has_false_promotion(
            numpy.random.default_rng([number, is_spent, is_renewed]),
            judge,
            n_weeks,
            is_spent=is_spent,
            is_renewed=is_renewed,
        )
        for number in range(n_histories)
    )
    low, high = stats.binomtest(n_false, n_histories).proportion_ci(0.95)
    return {
        "n_histories": n_histories,
        "n_false": n_false,
        "share": n_false / n_histories,
        "interval": (float(low), float(high)),
    }


def weeks_until_promoted(
    generator: Generator, judge: Judge, start: int, gain: float, *, is_spent: bool
) -> float:
    """Count the weeks until a truly better model is promoted; infinity beyond the last that counts."""
    rows = Rows.draw(generator)
    n_weeks = WITHIN_WEEKS[-1]
    champion, *challengers = rows.losses(generator, n_weeks + 1)
    _, error = rows.t_values(champion, numpy.array(challengers))
    better = numpy.array(challengers) - gain * float(error.mean())
    found, error = rows.t_values(champion, better)
    for week, t in enumerate((found / error).tolist()):
        challenge = Challenge(number=start + week)
        level = spent_confidence(GATES.confidence, challenge) if is_spent else GATES.confidence
        if judge.is_promoted(rows, (champion, better[week]), t, level):
            return week + 1
    return math.inf


def measure_power(
    judge: Judge, n_histories: int, start: int, gain: float, *, is_spent: bool
) -> dict[str, Any]:
    """Compute the share of better models promoted within some weeks."""
    weeks = [
        weeks_until_promoted(
            numpy.random.default_rng([number, start, round(10 * gain)]),
            judge,
            start,
            gain,
            is_spent=is_spent,
        )
        for number in range(n_histories)
    ]
    shares = {
        str(within): sum(week <= within for week in weeks) / n_histories for within in WITHIN_WEEKS
    }
    return {"start": start, "gain": gain, "is_spent": is_spent, "promoted_within": shares}


def measure(n_histories: int, n_weeks: int) -> dict[str, Any]:
    """Run all parts.

    Args:
        n_histories: Of equal models with spending; fewer of the others.
        n_weeks: Length of a history.

    Returns:
        The results by part.
    """
    judge, started = Judge(), time.monotonic()
    few = max(1, n_histories // 10)
    false = {
        "spent": measure_false(judge, n_histories, n_weeks, is_spent=True),
        "spent_rows_renewed": measure_false(
            judge, n_histories // 2, n_weeks, is_spent=True, is_renewed=True
        ),
        "not_spent": measure_false(judge, few, n_weeks, is_spent=False),
        "not_spent_rows_renewed": measure_false(
            judge, few, n_weeks, is_spent=False, is_renewed=True
        ),
    }
    power = [measure_power(judge, few, 1, gain, is_spent=False) for gain in GAINS]
    power += [
        measure_power(judge, few, start, gain, is_spent=True) for start in STARTS for gain in GAINS
    ]
    return {
        "alpha": round(ALPHA, 6),
        "n_weeks": n_weeks,
        "false_promotions": false,
        "power": power,
        "decided": judge.n_decided,
        "surely_refused": judge.n_skipped,
        "of_these_computed": judge.n_sampled,
        "of_these_promoted": len(judge.wrongly_skipped),
        "seconds": round(time.monotonic() - started, 1),
    }


def show(results: dict[str, Any]) -> str:
    """Format the results as two tables."""
    lines = [
        f"histories of {results['n_weeks']} challengers, equally good models, one promoted falsely"
    ]
    for name, found in results["false_promotions"].items():
        low, high = found["interval"]
        lines.append(
            f"{name:24} {found['share']:7.1%} of {found['n_histories']}, "
            f"95 % interval {low:.1%} to {high:.1%}"
        )
    lines += ["", f"truly better models, share promoted within weeks {WITHIN_WEEKS}"]
    for found in results["power"]:
        shares = "  ".join(f"{share:5.0%}" for share in found["promoted_within"].values())
        name = f"from challenger {found['start']}" if found["is_spent"] else "not spent"
        lines.append(f"{name:24} gain {found['gain']:.0f} errors  {shares}")
    return "\n".join(lines) + "\n"


def is_kept(results: dict[str, Any]) -> bool:
    """Return whether the share of false promotions can be within the bound of each part."""
    found = results["false_promotions"]
    return all(found[name]["interval"][0] <= bound for name, bound in BOUNDS.items())


def main() -> int:
    """Measure, print tables and one JSON line; fail where more is promoted falsely than stated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=600)
    parser.add_argument("--weeks", type=int, default=260)
    options = parser.parse_args()
    results = measure(options.histories, options.weeks)
    print(show(results))  # noqa: T201
    print(json.dumps(results))  # noqa: T201
    return 0 if is_kept(results) and not results["of_these_promoted"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
