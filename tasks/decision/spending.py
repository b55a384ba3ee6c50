"""How a decision spends its error over repeated challengers, and what its report says of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.config.gates import Against, GateDefinition
from schemas.metrics import is_safeguard
from schemas.records.decision import Challenge, GateResult, SeenRows
from schemas.rule_ids import Verdict


def spent_confidence(confidence: float, challenge: Challenge) -> float:
    """Return the level of the intervals that decide about the n-th challenger on the s-th set of rows.

    It is 1 - 2 alpha / (s (s + 1) n (n + 1)), where alpha = 1 - confidence. A challenger that is no
    better passes with half of the last term, only at the lower end; the sum of these over all n is
    alpha / (s (s + 1)), at most alpha / 2 for one set of rows, and over all sets alpha. So, however
    long a champion is challenged and however often the rows are renewed, a model that is no better
    replaces it with a probability of at most alpha, by the union bound. New rows lower n, but each
    set is one more chance, so it gets less than the set before.

    Args:
        confidence: `gates.confidence`.
        challenge: Numbers of the challenger and of its set of rows.

    Returns:
        The level; for the first challenger on the first rows (1 + confidence) / 2.
    """
    sets, numbers = (number * (number + 1) for number in (challenge.row_set, challenge.number))
    return 1 - 2 * (1 - confidence) / (sets * numbers)


def can_promote(gate: GateDefinition | GateResult) -> bool:
    """Return whether a gain in a gate is a reason to promote, so that its level must rise.

    Not that of an absolute gate, of a gate that only shows what training must not lose, or of one
    whose limit below 0 allows a loss: at a rising level, an equal model would fail them in time.
    """
    is_compared = gate.against is not Against.ABSOLUTE
    return is_compared and gate.limit >= 0 and not is_safeguard(gate.metric)


def advise(relaxed: Sequence[GateResult], challenge: Challenge) -> str:
    """Return how to lower the level, if only the number of challengers before it refused a model.

    Args:
        relaxed: Results of all gates at `gates.confidence`.
        challenge: Number of the refused challenger.

    Returns:
        Advice to renew the rows; empty where a gate fails at that level too, or where new rows,
        which are one more set, would ask for as much.
    """
    new_rows = challenge.model_copy(update={"row_set": challenge.row_set + 1, "number": 1})
    # Whatever gates.confidence is, the order of two levels is the same.
    is_lower = spent_confidence(0.95, new_rows) < spent_confidence(0.95, challenge)
    if not is_lower or any(gate.verdict is Verdict.FAILED for gate in relaxed):
        return ""
    return (
        f". {challenge.number - 1} challengers were compared with this opponent on these rows "
        "before, so more is asked of this one. To start a new count, renew the rows: set "
        "split.pinned to rows collected since"
    )


def describe_challenge(challenge: Challenge, level: str) -> str:
    """Format the number and the level, e.g. challenger 7 on these rows, confidence 99.9 %."""
    rows = "these rows"
    if challenge.row_set > 1:
        rows += f" (set {challenge.row_set} against this opponent)"
    return f"challenger {challenge.number} on {rows}, confidence {level}"


def describe_seen(seen: SeenRows) -> tuple[str, ...]:
    """Count the rows that a model was trained on, and name the models whose rows are not known."""
    counts = {"challenger": len(seen.challenger), "champion": len(seen.champion)}
    found = [
        f"the {role} was trained on {n_rows} of the held-out rows, which are not compared"
        for role, n_rows in counts.items()
        if n_rows
    ]
    found += [
        f"warning: the rows that {name} was trained on are not known, so held-out rows may be "
        "among them"
        for name in seen.unknown
    ]
    return tuple(found)
