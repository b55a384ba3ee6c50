"""Stage `decide`: is the challenger better than base and champion, on the same rows, beyond chance?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.config.evaluation import EvaluationConfig
from schemas.config.gates import (
    JUDGE_METRIC,
    Against,
    DecisionMode,
    GateConfig,
    GateDefinition,
    with_retention,
)
from schemas.metrics import is_of_retention, is_safeguard
from schemas.records.decision import (
    Challenge,
    Decision,
    DecisionReport,
    GateResult,
    SeenRows,
)
from schemas.records.references import ChampionReference, DecisionReference, EvaluationReference
from schemas.rule_ids import Severity, Verdict
from tasks.decision.gates import (
    absolute_gate,
    comparison_gate,
    row_count_gate,
    same_evaluation_gate,
    skip_gate,
    template_gate,
    tokenizer_gate,
)
from tasks.decision.intervals import MIN_INTERVAL_GROUPS, RowScores, count_groups
from tasks.decision.llm_judge import judge_pair
from tasks.decision.spending import (
    advise,
    can_promote,
    describe_challenge,
    describe_seen,
    spent_confidence,
)
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.stage import stage_task
from tasks.engine.wording import share
from tasks.evaluation.row_scores import LM_EVAL_PREFIX, read_groups, read_scores

GATES_FILE = "gates.json"
NO_CHAMPION = "no champion yet: compared with the base alone"
NOT_ASKED = "no row has it: all prompts are equal, or no row of the set has `expected`"
MODE_IS_OFF = "gates.mode is off: no gates ran, so nothing is registered"
EVEN_WIN_RATE = 0.5
"""Of each of two models that a judge finds equal."""

Judging = Callable[[EvaluationReference], RowScores]
"""Asks the judging model about an opponent: row to (win of the challenger, 1)."""


@dataclass(frozen=True, slots=True)
class Contest:
    """The evaluations that are compared."""

    challenger: EvaluationReference
    opponents: Mapping[Against, EvaluationReference]
    """The base; the champion where there is one."""
    seen: SeenRows
    has_other_template: bool = False
    """The champion was trained with another chat template than the challenger."""

    def left_out(self, gate: GateDefinition) -> frozenset[int]:
        """Return the rows that a gate does not compare; metrics with rows of their own have none."""
        if gate.metric.startswith(LM_EVAL_PREFIX) or is_of_retention(gate.metric):
            return frozenset()
        theirs = self.seen.champion if gate.against is Against.CHAMPION else ()
        return frozenset((*self.seen.challenger, *theirs))


def check_gates(
    contest: Contest, gates: GateConfig, ask_judge: Judging, level: float | None = None
) -> list[GateResult]:
    """Evaluate every gate that is not off.

    Row scores that are missing or damaged raise what reading them raises: that is no property of
    the model, so the run fails and no gate does.

    Args:
        contest: Evaluations of all models.
        gates: What a promotion requires.
        ask_judge: Lets the judging model compare an opponent with the challenger.
        level: Of the intervals of gates that can promote; None takes `gates.confidence`, as all
            other gates do.

    Returns:
        One result per gate, the two fixed ones first.
    """
    rows = {
        reference.sha256: frozenset(read_scores(locate(reference, ""), "loss"))
        for reference in (contest.challenger, *contest.opponents.values())
    }
    same = same_evaluation_gate(contest.challenger, contest.opponents, rows)
    own = locate(contest.challenger, "")
    n_groups = count_groups(sorted(rows[contest.challenger.sha256]), read_groups(own, "loss"))
    results = [row_count_gate(contest.challenger, gates, n_groups), same]
    for gate in gates.definitions:
        used = _settings(gate, gates, level)
        if gate.severity is Severity.OFF:
            continue
        if gate.against is Against.ABSOLUTE:
            groups, found = read_groups(own, gate.metric), read_scores(own, gate.metric)
            left_out = contest.left_out(gate) & found.keys()
            result = absolute_gate(gate, without(found, left_out), used, groups)
            results.append(_count_out(result, left_out))
        elif gate.against not in contest.opponents:
            results.append(skip_gate(gate, NO_CHAMPION))
        elif same.verdict is not Verdict.PASSED:
            results.append(skip_gate(gate, f"not compared, see {same.id}"))
        else:
            results.append(_compare(gate, contest, used, ask_judge))
    return results


def _settings(gate: GateDefinition, gates: GateConfig, level: float | None) -> GateConfig:
    """Return the settings with the level and the fewest rows of one gate."""
    update: dict[str, float] = {}
    if level and can_promote(gate):
        update["confidence"] = level
    if is_of_retention(gate.metric):  # check_quality counted the rows
        update["min_eval_rows"] = MIN_INTERVAL_GROUPS
    return gates.model_copy(update=update)


def _compare(
    gate: GateDefinition, contest: Contest, gates: GateConfig, ask_judge: Judging
) -> GateResult:
    """Evaluate one gate against base or champion."""
    opponent = contest.opponents[gate.against]
    refusal = tokenizer_gate(gate, opponent, contest.challenger)
    if not refusal and gate.against is Against.CHAMPION and contest.has_other_template:
        refusal = template_gate(gate)
    if refusal:
        return refusal
    groups = read_groups(locate(contest.challenger, ""), gate.metric)
    if gate.metric == JUDGE_METRIC:
        wins = ask_judge(opponent)
        left_out = contest.left_out(gate) & wins.keys()
        scores = without(wins, left_out)
        even = {row: (EVEN_WIN_RATE * weight, weight) for row, (_, weight) in scores.items()}
        return _count_out(comparison_gate(gate, even, scores, gates, groups), left_out)
    found = [read_scores(locate(one, ""), gate.metric) for one in (opponent, contest.challenger)]
    left_out = contest.left_out(gate) & set().union(*found)
    before, after = (without(scores, left_out) for scores in found)
    if is_safeguard(gate.metric) and not before and not after:
        return skip_gate(gate, NOT_ASKED)
    return _count_out(comparison_gate(gate, before, after, gates, groups), left_out)


def without(scores: RowScores, rows: frozenset[int]) -> RowScores:
    """Leave out some rows."""
    return {row: pair for row, pair in scores.items() if row not in rows}


def _count_out(gate: GateResult, rows: frozenset[int]) -> GateResult:
    """Count the rows left out in the reason, with the way to rows that no model has seen."""
    if not rows:
        return gate
    count = "1 row was left out" if len(rows) == 1 else f"{len(rows)} rows were left out"
    reason = f"{gate.reason}; {count}: a model compared was trained on "
    reason += "it" if len(rows) == 1 else "them"
    if gate.challenger is None:
        reason += ". Hold out rows that neither has seen: restore split.seed and split.eval_fraction, or pin new rows"
    return gate.model_copy(update={"reason": reason, "n_left_out_rows": len(rows)})


def conclude(results: Sequence[GateResult]) -> tuple[Decision, str]:
    """Promote when every gate that can refuse passed, and at least one of them shows a gain.

    Gates with a limit below 0 only refuse: a gain in them is no reason to promote. All must pass, so with limits of 0 or more, adding a gate can only make a false promotion less
    likely: no correction for several comparisons is due.

    Args:
        results: Of all gates.

    Returns:
        The decision and a sentence that gives the reason.
    """
    failed = [gate for gate in results if gate.verdict is Verdict.FAILED]
    if failed:
        return Decision.REFUSE, "; ".join(f"{gate.id}: {gate.reason}" for gate in failed)
    compared = [
        gate
        for gate in results
        if gate.verdict is Verdict.PASSED
        and gate.severity is Severity.BLOCK
        and gate.gain is not None
        and not is_safeguard(gate.metric)
    ]
    reasons = "; ".join(f"{gate.id}: {gate.reason}" for gate in compared)
    if not compared:
        return (
            Decision.REFUSE,
            "no gate of severity block compares the challenger with base or champion",
        )
    if not any(can_promote(gate) for gate in compared):
        return (
            Decision.REFUSE,
            "no gate of severity block with a limit of 0 or more shows a gain beyond chance, and "
            f"those below 0 only show that nothing was lost: {reasons}",
        )
    return Decision.PROMOTE, reasons


def _judging(settings: EvaluationConfig, challenger: EvaluationReference, folder: Path) -> Judging:
    """Bind what the judge needs; an opponent is compared once for all gates."""
    known: dict[str, RowScores] = {}

    def ask_judge(opponent: EvaluationReference) -> RowScores:
        if settings.judge is None:
            return {}
        if opponent.sha256 not in known:
            wins = judge_pair(settings.judge, locate(opponent, ""), locate(challenger, ""), folder)
            known[opponent.sha256] = {row: (win, 1.0) for row, win in wins.items()}
        return known[opponent.sha256]

    return ask_judge


def _opponents(
    baseline: EvaluationReference, champion: ChampionReference
) -> dict[Against, EvaluationReference]:
    found = {Against.BASE: baseline}
    return found | ({Against.CHAMPION: champion.evaluation} if champion.evaluation else {})


@stage_task(timeout_seconds=6 * 3600)
def decide(
    output: OutputFolder,
    baseline: EvaluationReference,
    champion: ChampionReference,
    evaluation: EvaluationReference,
    gates: GateConfig,
    settings: EvaluationConfig,
    challenge: Challenge,
    seen: SeenRows,
    template_sha256: str,
) -> DecisionReference:
    """Compare the challenger with base and champion and decide on promotion.

    Args:
        output: Gets `gates.json`, and the judge's answers where a gate asks for them.
        baseline: Scores of the base.
        champion: Scores of the champion; none before the first promotion.
        evaluation: Scores of the challenger.
        gates: What a promotion requires.
        settings: Of the judging model.
        challenge: How many challengers were compared with the same opponent on these rows.
        seen: Rows that a model was trained on, which it is not compared on.
        template_sha256: Of the challenger's chat template.

    Returns:
        The gate report: decision, reason and every gate's result.
    """
    results: list[GateResult] = []
    decision, reason = Decision.SKIPPED, MODE_IS_OFF
    notes: tuple[str, ...] = ()
    level = spent_confidence(gates.confidence, challenge)
    if gates.mode is not DecisionMode.OFF:
        is_other = champion.template_sha256 not in ("", template_sha256)
        contest = Contest(evaluation, _opponents(baseline, champion), seen, is_other)
        ask_judge = _judging(settings, evaluation, output.path)
        all_gates = with_retention(gates, settings.retention)
        results = check_gates(contest, all_gates, ask_judge, level)
        decision, reason = conclude(results)
        if decision is Decision.REFUSE and level > gates.confidence:
            reason += advise(check_gates(contest, all_gates, ask_judge), challenge)
        notes = (describe_challenge(challenge, share(level)), *describe_seen(seen))
    report = DecisionReport(
        mode=gates.mode,
        decision=decision,
        reason=reason,
        confidence=level,
        eval_sha256=evaluation.eval_sha256,
        n_eval_rows=evaluation.n_rows,
        champion_version=champion.version,
        gates=tuple(results),
        challenge=challenge,
        notes=notes,
    )
    (output.path / GATES_FILE).write_text(report.model_dump_json(indent=1), encoding="utf-8")
    return output.commit(DecisionReference, report=report)
