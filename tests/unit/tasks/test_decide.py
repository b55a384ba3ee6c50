"""The decision: whom it compares, what it concludes, and what it leaves to fail the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.config.evaluation import EvaluationConfig, JudgeConfig
from schemas.errors import ConfigError
from schemas.records.decision import Decision, DecisionReport
from schemas.records.references import Role
from schemas.rule_ids import Verdict
from tasks.engine.cache import locate
from tests.support.chat_service import ChatService, chat_service
from tests.support.decisions import N_ROWS, NO_CHAMPION, crown, forget_prompts, judge, run, verdicts
from tests.support.toy import write_jsonl


def test_decide_compares_the_first_model_with_the_base_alone(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    found = run(base, NO_CHAMPION, judge(work_folder, Role.CHALLENGER, 2.0))
    assert found.decision is Decision.PROMOTE
    assert found.is_promotion
    assert found.reason == (
        "loss_below_base: loss 2 against 3 of base: gain +1, 97.5 % interval [+1, +1]"
    )
    assert verdicts(found) == {
        "min_eval_rows": Verdict.PASSED,
        "same_evaluation": Verdict.PASSED,
        "loss_below_base": Verdict.PASSED,
        "loss_below_champion": Verdict.SKIPPED,
        "prompt_dependence_kept": Verdict.PASSED,
    }
    assert found.report.gates[3].reason == "no champion yet: compared with the base alone"
    assert found.report.champion_version is None


def test_decide_asks_for_more_than_the_champion_has(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = crown(judge(work_folder, Role.CHAMPION, 2.0))
    found = run(base, champion, judge(work_folder, Role.CHALLENGER, 2.5))
    assert found.decision is Decision.REFUSE
    assert found.reason.startswith("loss_below_champion: loss 2.500 against 2 of champion")
    assert verdicts(found)["loss_below_base"] is Verdict.PASSED
    assert found.report.champion_version == 3


def test_decide_refuses_a_tie_with_the_champion(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = crown(judge(work_folder, Role.CHAMPION, 2.0))
    found = run(base, champion, judge(work_folder, Role.CHALLENGER, 2.0))
    assert found.decision is Decision.REFUSE
    assert found.reason.endswith("a tie: no row tells the two apart")


def test_decide_writes_the_report(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    found = run(base, NO_CHAMPION, judge(work_folder, Role.CHALLENGER, 2.0))
    text = locate(found, "gates.json").read_text(encoding="utf-8")
    assert DecisionReport.model_validate_json(text) == found.report
    assert (found.report.confidence, found.report.eval_sha256, found.report.n_eval_rows) == (
        0.975,
        "e",
        N_ROWS,
    )


def test_decide_compares_nothing_across_evaluation_sets(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = crown(judge(work_folder, Role.CHAMPION, 4.0, eval_sha256="other"))
    found = run(base, champion, judge(work_folder, Role.CHALLENGER, 2.0))
    assert found.decision is Decision.REFUSE
    assert found.reason == (
        "same_evaluation: champion was evaluated on set other, the challenger on e"
    )
    assert verdicts(found)["loss_below_base"] is Verdict.SKIPPED


def test_decide_asks_for_a_gain_where_every_limit_allows_a_loss(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    challenger = judge(work_folder, Role.CHALLENGER, 3.1)
    slack = {"loss_below_base": {"limit": -0.5}}
    found = run(base, NO_CHAMPION, challenger, {"checks": slack})
    assert verdicts(found)["loss_below_base"] is Verdict.PASSED
    assert found.decision is Decision.REFUSE
    assert found.reason.startswith(
        "no gate of severity block with a limit of 0 or more shows a gain beyond chance, and those "
        "below 0 only show that nothing was lost: loss_below_base: loss 3.100"
    )


def test_decide_compares_answers_with_a_champion_that_lacks_tokens_of_the_rows(
    work_folder: Path,
) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = crown(judge(work_folder, Role.CHAMPION, 4.0, tokenizer_sha256="other"))
    (work_folder / "stages" / "evaluate_champion" / "key" / "losses.jsonl").write_text("")
    challenger = judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, champion, challenger)
    assert "champion and challenger have different tokenizers" in found.reason
    own = {
        "loss_below_champion": {"severity": "off"},
        "match": {"metric": "exact_match", "against": "champion", "limit": -0.1},
    }
    found = run(base, champion, challenger, {"checks": own})
    assert verdicts(found)["match"] is Verdict.PASSED
    assert found.decision is Decision.PROMOTE


def test_decide_refuses_losses_of_another_tokenizer(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    champion = crown(judge(work_folder, Role.CHAMPION, 4.0, tokenizer_sha256="other"))
    found = run(base, champion, judge(work_folder, Role.CHALLENGER, 2.0))
    assert found.decision is Decision.REFUSE
    assert "champion and challenger have different tokenizers" in found.reason


def test_decide_refuses_too_few_rows(work_folder: Path) -> None:
    base = judge(work_folder, Role.BASE, 3.0)
    few = {"min_eval_rows": N_ROWS + 1}
    found = run(base, NO_CHAMPION, judge(work_folder, Role.CHALLENGER, 2.0), few)
    assert found.decision is Decision.REFUSE
    assert found.reason == (
        "min_eval_rows: 24 held-out rows, at least 25 required; "
        "loss_below_base: 24 rows with loss, at least 25 (gates.min_eval_rows) required; "
        "prompt_dependence_kept: 24 rows with prompt_dependence, at least 25 "
        "(gates.min_eval_rows) required"
    )


def test_decide_refuses_a_model_that_stopped_reading_its_prompt(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    forget_prompts(locate(own, ""), 0.2)
    found = run(base, NO_CHAMPION, own)
    assert found.decision is Decision.REFUSE
    assert found.reason.startswith(
        "prompt_dependence_kept: prompt_dependence 0.025 against 0.500 of base: gain -0.475"
    )


def test_decide_skips_the_dependence_where_all_prompts_are_equal(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    for one in (base, own):
        write_jsonl(locate(one, "prompt_dependence.jsonl"), [])
    found = run(base, NO_CHAMPION, own)
    assert verdicts(found)["prompt_dependence_kept"] is Verdict.SKIPPED
    assert found.decision is Decision.PROMOTE


def test_decide_promotes_nothing_for_reading_more_of_the_prompt(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 3.0)
    forget_prompts(locate(base, ""), 0.1)
    checks = {"loss_below_base": {"limit": -0.5}}
    found = run(base, NO_CHAMPION, own, {"checks": checks})
    assert found.report.gates[-1].gain == pytest.approx(0.4875)
    assert found.decision is Decision.REFUSE
    assert found.reason.startswith(
        "no gate of severity block with a limit of 0 or more shows a gain"
    )


def test_decide_asks_that_retention_rows_are_kept(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    settings = EvaluationConfig.model_validate({"retention": {"general": "a.jsonl"}})
    losses: dict[str, float] = {"generate_baseline": 2.0, "evaluate_model": 2.2}
    for one in (base, own):
        nats = losses[one.stage] * 4
        rows = [
            {"set": "general", "row": n, "loss_sum_nats": nats, "n_tokens": 4} for n in range(20)
        ]
        write_jsonl(locate(one, "retention_losses.jsonl"), rows)
        write_jsonl(locate(one, "retention_answers.jsonl"), [])
    found = run(base, NO_CHAMPION, own, settings=settings)
    assert verdicts(found)["general_loss_kept"] is Verdict.PASSED
    assert verdicts(found)["general_expected_kept"] is Verdict.SKIPPED
    assert found.decision is Decision.PROMOTE
    most = {"metric": "loss/general", "against": "absolute", "limit": 2.5}
    checks = {"general_loss_kept": {"limit": -0.1}, "general_loss": most}
    strict = {"checks": checks, "min_eval_rows": N_ROWS}
    found = run(base, NO_CHAMPION, own, strict, settings)
    assert verdicts(found)["general_loss"] is Verdict.PASSED  # of 20 rows
    assert found.reason.startswith("general_loss_kept: loss/general 2.200 against 2 of base")


def test_decide_lets_a_warning_gate_warn(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    matches = {"metric": "exact_match", "against": "base", "severity": "warn"}
    chrf = {"metric": "chrf", "against": "base", "severity": "warn"}
    found = run(base, NO_CHAMPION, own, {"checks": {"matches": matches, "chrf": chrf}})
    assert found.decision is Decision.PROMOTE
    assert verdicts(found)["matches"] is Verdict.WARNED
    assert found.report.gates[-2].reason.endswith("a tie: no row tells the two apart")
    assert verdicts(found)["chrf"] is Verdict.WARNED
    assert found.report.gates[-1].reason == "chrf is missing: no row of challenger has it"


def test_decide_asks_every_blocking_gate(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    half = {"metric": "exact_match", "against": "absolute", "limit": 0.5}
    found = run(base, NO_CHAMPION, own, {"checks": {"half_match": half}})
    assert found.decision is Decision.REFUSE
    assert found.reason.startswith("half_match: exact_match 0.250, at least 0.500 required")


def test_decide_promotes_nothing_on_the_gain_of_a_gate_that_only_warns(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, NO_CHAMPION, own, {"checks": {"loss_below_base": {"severity": "warn"}}})
    assert verdicts(found)["loss_below_base"] is Verdict.PASSED
    assert found.decision is Decision.REFUSE
    assert found.reason == "no gate of severity block compares the challenger with base or champion"


def test_decide_leaves_out_what_is_off_and_refuses_when_nothing_was_compared(
    work_folder: Path,
) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, NO_CHAMPION, own, {"checks": {"loss_below_base": {"severity": "off"}}})
    assert "loss_below_base" not in verdicts(found)
    assert found.decision is Decision.REFUSE
    assert found.reason == "no gate of severity block compares the challenger with base or champion"


def test_decide_in_a_dry_run_decides_the_same_and_moves_nothing(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, NO_CHAMPION, own, {"mode": "dry_run"})
    assert found.decision is Decision.PROMOTE
    assert found.report.mode == "dry_run"
    assert not found.is_promotion


def test_decide_judges_nothing_when_the_mode_is_off(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, NO_CHAMPION, own, {"mode": "off"})
    assert found.decision is Decision.SKIPPED
    assert (found.report.gates, found.report.notes) == ((), ())
    assert found.reason == "gates.mode is off: no gates ran, so nothing is registered"


@pytest.mark.parametrize("name", ["losses.jsonl", "row_scores.jsonl"])
def test_decide_fails_the_run_when_scores_are_gone(work_folder: Path, name: str) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    locate(base, name).unlink()
    matches = {"metric": "exact_match", "against": "base"}
    with pytest.raises(FileNotFoundError):
        run(base, NO_CHAMPION, own, {"checks": {"matches": matches}})


def test_decide_fails_the_run_when_scores_are_damaged(work_folder: Path) -> None:
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    locate(own, "losses.jsonl").write_text('{"row": 0, "loss_sum', encoding="utf-8")
    with pytest.raises(json.JSONDecodeError):
        run(base, NO_CHAMPION, own)


WINS = {"checks": {"wins": {"metric": "judge_win_rate", "against": "base"}}}


def asking(service: ChatService) -> EvaluationConfig:
    """Configure a service as the judge."""
    return EvaluationConfig(judge=JudgeConfig(url=service.url, model="j"))


@pytest.fixture
def service() -> Iterator[ChatService]:
    with chat_service() as found:
        yield found


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("words", "win", "decision"),
    [
        (("A", "B"), 1.0, Decision.PROMOTE),
        (("tie", "tie"), 0.5, Decision.REFUSE),
        (("B", "A"), 0.0, Decision.REFUSE),
    ],
)
def test_decide_counts_wins_beyond_one_half(
    work_folder: Path,
    service: ChatService,
    words: tuple[str, str],
    win: float,
    decision: Decision,
) -> None:
    def reply(text: str) -> tuple[int, str]:
        is_first = f"<Answer A>\n{Role.CHALLENGER}" in text
        return 200, words[0] if is_first else words[1]

    service.reply = reply
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    found = run(base, NO_CHAMPION, own, WINS, asking(service))
    gate = found.report.gates[-1]
    assert (gate.opponent, gate.challenger, gate.gain) == (0.5, win, win - 0.5)
    assert found.decision is decision


@pytest.mark.loopback
def test_decide_fails_the_run_when_the_judge_does_not_serve(
    work_folder: Path, service: ChatService
) -> None:
    service.reply = lambda _: (401, "")
    base, own = judge(work_folder, Role.BASE, 3.0), judge(work_folder, Role.CHALLENGER, 2.0)
    with pytest.raises(ConfigError):
        run(base, NO_CHAMPION, own, WINS, asking(service))
