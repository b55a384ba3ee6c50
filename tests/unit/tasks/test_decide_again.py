"""Decisions about further challengers, and about rows that a model was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.records.decision import Challenge, Decision, SeenRows
from schemas.records.references import Role
from schemas.rule_ids import Verdict
from tasks.engine.cache import locate
from tests.support.decisions import N_ROWS, NO_CHAMPION, crown, forget_prompts, judge, run, verdicts
from tests.support.toy import write_jsonl


def test_decide_asks_more_of_every_further_challenger(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = judge(work_folder, Role.CHAMPION, 2.0)
    challenger = judge(work_folder, Role.CHALLENGER, 2.0)
    rows: list[dict[str, object]] = [
        {"row": n, "loss_sum_nats": 15.0 + 1.5 * (n % 3 == 0), "n_tokens": 8} for n in range(N_ROWS)
    ]
    write_jsonl(locate(challenger, "losses.jsonl"), rows)
    first = run(base, crown(champion), challenger)
    assert first.decision is Decision.PROMOTE
    assert first.report.notes == ("challenger 1 on these rows, confidence 97.5 %",)
    seventh = run(base, crown(champion), challenger, challenge=Challenge(number=7))
    assert seventh.decision is Decision.REFUSE
    assert seventh.report.notes == ("challenger 7 on these rows, confidence 99.9 %",)
    assert seventh.report.confidence == pytest.approx(1 - 0.05 / 56)
    assert seventh.report.challenge == Challenge(number=7)
    assert "99.9 % interval [-" in seventh.reason
    assert seventh.reason.endswith("renew the rows: set split.pinned to rows collected since")


@pytest.mark.parametrize("nats", [0.0, 15.5])
def test_decide_advises_new_rows_only_where_the_number_refused(
    work_folder: Path, nats: float
) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = judge(work_folder, Role.CHAMPION, 2.0)
    challenger = judge(work_folder, Role.CHALLENGER, 2.0)
    # Either the dependence fails too, at its fixed level, or the gain is not beyond chance at 95 %.
    rows: list[dict[str, object]] = [
        {"row": n, "loss_sum_nats": (nats or 15.0) + 1.5 * (n % 3 == 0), "n_tokens": 8}
        for n in range(N_ROWS)
    ]
    write_jsonl(locate(challenger, "losses.jsonl"), rows)
    if not nats:
        forget_prompts(locate(challenger, ""), 0.2)
    found = run(base, crown(champion), challenger, challenge=Challenge(number=7))
    assert found.decision is Decision.REFUSE
    assert verdicts(found)["loss_below_champion"] is Verdict.FAILED
    assert "split.pinned" not in found.reason


def test_decide_raises_the_level_of_what_can_promote_alone(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = judge(work_folder, Role.CHAMPION, 2.0)
    challenger = judge(work_folder, Role.CHALLENGER, 2.0)
    # As good as the champion: at 95 % beyond doubt no worse than by 0.1, at 99.9 % not.
    rows: list[dict[str, object]] = [
        {"row": n, "loss_sum_nats": 16.0 + (1.3 if n % 2 else -1.3), "n_tokens": 8}
        for n in range(N_ROWS)
    ]
    write_jsonl(locate(challenger, "losses.jsonl"), rows)
    checks = {
        "loss_below_champion": {"limit": -0.1},
        "half_match": {"metric": "exact_match", "against": "absolute", "limit": 0.1},
    }
    found = run(
        base, crown(champion), challenger, {"checks": checks}, challenge=Challenge(number=7)
    )
    assert verdicts(found)["loss_below_champion"] is Verdict.PASSED
    assert {gate.id: gate.confidence for gate in found.report.gates} == {
        "min_eval_rows": None,
        "same_evaluation": None,
        "loss_below_base": pytest.approx(1 - 0.05 / 56),
        "loss_below_champion": 0.95,
        "prompt_dependence_kept": 0.95,
        "half_match": 0.95,
    }
    assert found.decision is Decision.PROMOTE  # by its gain over the base


def test_decide_promotes_nothing_on_the_gain_of_a_gate_that_allows_a_loss(
    work_folder: Path,
) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, NO_CHAMPION, own, {"checks": {"loss_below_base": {"limit": -0.5}}})
    assert verdicts(found)["loss_below_base"] is Verdict.PASSED
    assert found.decision is Decision.REFUSE


def test_decide_promotes_a_large_gain_after_hundreds_of_challengers(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = judge(work_folder, Role.CHAMPION, 2.0)
    challenger = judge(work_folder, Role.CHALLENGER, 2.0)
    rows: list[dict[str, object]] = [
        {"row": n, "loss_sum_nats": 8.0 + n % 3, "n_tokens": 8} for n in range(N_ROWS)
    ]
    write_jsonl(locate(challenger, "losses.jsonl"), rows)
    found = run(base, crown(champion), challenger, challenge=Challenge(number=500))
    assert found.decision is Decision.PROMOTE
    assert found.report.notes == ("challenger 500 on these rows, confidence 99.99998 %",)
    reasons = {gate.id: gate.reason for gate in found.report.gates}
    assert ", 99.99998 % interval" in reasons["loss_below_champion"]
    # What must not be lost keeps its level: at a rising one, equal models would fail in time.
    assert ", 95 % interval" in reasons["prompt_dependence_kept"]


def test_decide_leaves_out_rows_that_a_model_was_trained_on(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = judge(work_folder, Role.CHAMPION, 2.0)
    challenger = judge(work_folder, Role.CHALLENGER, 2.1)
    learned: list[dict[str, object]] = [
        {"row": n, "loss_sum_nats": 1.0 if n < 4 else 24.0, "n_tokens": 8} for n in range(N_ROWS)
    ]
    write_jsonl(locate(champion, "losses.jsonl"), learned)
    seen = SeenRows(champion=(0, 1, 2, 3))
    found = run(base, crown(champion), challenger, seen=seen)
    assert found.decision is Decision.PROMOTE  # on the 20 rows that neither has seen
    by_base, by_champion = found.report.gates[2:4]
    assert (by_base.n_rows, by_base.n_left_out_rows) == (24, 0)
    assert (by_champion.n_rows, by_champion.n_left_out_rows, by_champion.opponent) == (20, 4, 3.0)
    assert by_champion.reason.endswith(
        "; 4 rows were left out: a model compared was trained on them"
    )
    answered: list[dict[str, object]] = [
        {"row": n, "scores": {"exact_match": 1.0}} for n in range(3, N_ROWS)
    ]
    for one in (champion, challenger):
        write_jsonl(locate(one, "row_scores.jsonl"), answered)
    match = {"metric": "exact_match", "against": "champion", "severity": "warn"}
    some = run(base, crown(champion), challenger, {"checks": {"match": match}}, seen=seen)
    assert some.report.gates[-1].n_left_out_rows == 1  # of the rows that have the metric
    assert "; 1 row was left out: a model" in some.report.gates[-1].reason
    assert found.report.notes[1:] == (
        "the champion was trained on 4 of the held-out rows, which are not compared",
    )


def test_decide_refuses_where_too_few_rows_are_left(work_folder: Path) -> None:
    base, champion = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHAMPION, 3.0)
    challenger = judge(work_folder, Role.CHALLENGER, 2.0)
    seen = SeenRows(challenger=(0,), champion=(0, 1, 2, 3, 4))
    found = run(base, crown(champion), challenger, seen=seen)
    assert found.decision is Decision.REFUSE
    assert verdicts(found)["loss_below_base"] is Verdict.PASSED  # 23 rows
    assert found.report.gates[3].reason == (
        "19 rows with loss, at least 20 (gates.min_eval_rows) required; 5 rows were left out: "
        "a model compared was trained on them. Hold out rows that neither has seen: restore "
        "split.seed and split.eval_fraction, or pin new rows"
    )


def test_decide_warns_where_trained_rows_are_not_known(work_folder: Path) -> None:
    base, champion = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHAMPION, 3.0)
    seen = SeenRows(unknown=("champion models:/toy/3",))
    found = run(base, crown(champion), judge(work_folder, Role.CHALLENGER, 2.0), seen=seen)
    assert found.decision is Decision.PROMOTE
    assert found.report.notes[1] == (
        "warning: the rows that champion models:/toy/3 was trained on are not known, so held-out "
        "rows may be among them"
    )


@pytest.mark.parametrize(("theirs", "is_compared"), [("t2", False), ("t1", True), ("", True)])
def test_decide_refuses_losses_of_a_champion_with_another_template(
    work_folder: Path, theirs: str, is_compared: bool
) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = crown(judge(work_folder, Role.CHAMPION, 4.0))
    champion = champion.model_copy(update={"template_sha256": theirs})
    challenger = judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, champion, challenger, template_sha256="t1")
    assert (found.decision is Decision.PROMOTE) is is_compared
    assert ("different chat templates" in found.reason) is not is_compared
    own = {
        "loss_below_champion": {"severity": "off"},
        "match": {"metric": "exact_match", "against": "champion", "limit": -0.1},
    }
    found = run(base, champion, challenger, {"checks": own}, template_sha256="t1")
    assert found.decision is Decision.PROMOTE
