"""Stage `decide`: is the challenger better than base and champion, on the same rows, beyond chance?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.config.evaluation import EvaluationConfig
from schemas.config.gates import JUDGE_METRIC, Against, DecisionMode, GateConfig, GateDefinition
from schemas.records.decision import Decision, DecisionReport, GateResult
from schemas.records.references import ChampionReference, DecisionReference, EvaluationReference
from schemas.rule_ids import Severity, Verdict
from tasks.decision.gates import (
    absolute_gate,
    comparison_gate,
    row_count_gate,
    same_evaluation_gate,
    skip_gate,
    tokenizer_gate,
)
from tasks.decision.intervals import RowScores
from tasks.decision.llm_judge import judge_pair
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.stage import stage_task
from tasks.evaluation.row_scores import read_scores

GATES_FILE = "gates.json"
NO_CHAMPION = "no champion yet: compared with the base alone"
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


def check_gates(
    contest: Contest, gates: GateConfig, seed: int, ask_judge: Judging
) -> list[GateResult]:
    """Evaluate every gate that is not off.

    Row scores that are missing or damaged raise what reading them raises: that is no property of
    the model, so the run fails and no gate does.

    Args:
        contest: Evaluations of all models.
        gates: What a promotion requires.
        seed: Of the bootstrap.
        ask_judge: Lets the judging model compare an opponent with the challenger.

    Returns:
        One result per gate, the two fixed ones first.
    """
    rows = {
        reference.sha256: frozenset(read_scores(locate(reference, ""), "loss"))
        for reference in (contest.challenger, *contest.opponents.values())
    }
    same = same_evaluation_gate(contest.challenger, contest.opponents, rows)
    results = [row_count_gate(contest.challenger, gates), same]
    for gate in gates.definitions:
        if gate.severity is Severity.OFF:
            continue
        if gate.against is Against.ABSOLUTE:
            scores = read_scores(locate(contest.challenger, ""), gate.metric)
            results.append(absolute_gate(gate, scores, gates, seed))
        elif gate.against not in contest.opponents:
            results.append(skip_gate(gate, NO_CHAMPION))
        elif same.verdict is not Verdict.PASSED:
            results.append(skip_gate(gate, f"not compared, see {same.id}"))
        else:
            results.append(_compare(gate, contest, gates, seed, ask_judge))
    return results


def _compare(
    gate: GateDefinition, contest: Contest, gates: GateConfig, seed: int, ask_judge: Judging
) -> GateResult:
    """Evaluate one gate against base or champion."""
    opponent = contest.opponents[gate.against]
    refusal = tokenizer_gate(gate, opponent, contest.challenger)
    if refusal:
        return refusal
    if gate.metric == JUDGE_METRIC:
        scores = ask_judge(opponent)
        even = {row: (EVEN_WIN_RATE * weight, weight) for row, (_, weight) in scores.items()}
        return comparison_gate(gate, even, scores, gates, seed)
    before, after = (
        read_scores(locate(one, ""), gate.metric) for one in (opponent, contest.challenger)
    )
    return comparison_gate(gate, before, after, gates, seed)


def conclude(results: Sequence[GateResult]) -> tuple[Decision, str]:
    """Promote when every gate that can refuse passed, and at least one of them shows a gain.

    All must pass, so with limits of 0 or more, adding a gate can only make a false promotion less
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
    ]
    reasons = "; ".join(f"{gate.id}: {gate.reason}" for gate in compared)
    if not compared:
        return (
            Decision.REFUSE,
            "no gate of severity block compares the challenger with base or champion",
        )
    if not any((gate.interval_low or 0) > 0 for gate in compared):  # limits below 0 let less pass
        return Decision.REFUSE, f"no gate of severity block shows a gain beyond chance: {reasons}"
    return Decision.PROMOTE, reasons


def _judging(settings: EvaluationConfig, challenger: EvaluationReference, folder: Path) -> Judging:
    """Bind what the judge needs; verdicts are kept, so a second gate repeats no request."""

    def ask_judge(opponent: EvaluationReference) -> RowScores:
        if settings.judge is None:
            return {}
        wins = judge_pair(settings.judge, locate(opponent, ""), locate(challenger, ""), folder)
        return {row: (win, 1.0) for row, win in wins.items()}

    return ask_judge


@stage_task(timeout_seconds=6 * 3600, libraries=("numpy", "scipy"))
def decide(
    output: OutputFolder,
    baseline: EvaluationReference,
    champion: ChampionReference,
    evaluation: EvaluationReference,
    gates: GateConfig,
    settings: EvaluationConfig,
    seed: int,
) -> DecisionReference:
    """Compare the challenger with base and champion and decide on promotion.

    Args:
        output: Gets `gates.json`, and the judge's answers where a gate asks for them.
        baseline: Scores of the base.
        champion: Scores of the champion; none before the first promotion.
        evaluation: Scores of the challenger.
        gates: What a promotion requires.
        settings: Of the judging model.
        seed: Of the bootstrap.

    Returns:
        The gate report: decision, reason and every gate's result.
    """
    results: list[GateResult] = []
    decision, reason = Decision.SKIPPED, MODE_IS_OFF
    if gates.mode is not DecisionMode.OFF:
        opponents = {Against.BASE: baseline}
        if champion.evaluation:
            opponents[Against.CHAMPION] = champion.evaluation
        ask_judge = _judging(settings, evaluation, output.path)
        results = check_gates(Contest(evaluation, opponents), gates, seed, ask_judge)
        decision, reason = conclude(results)
    report = DecisionReport(
        mode=gates.mode,
        decision=decision,
        reason=reason,
        confidence=gates.confidence,
        eval_sha256=evaluation.eval_sha256,
        n_eval_rows=evaluation.n_rows,
        champion_version=champion.version,
        gates=tuple(results),
    )
    (output.path / GATES_FILE).write_text(report.model_dump_json(indent=1), encoding="utf-8")
    return output.commit(DecisionReference, report=report)
