"""Gates as the configuration names them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.config.gates import (
    DEPENDENCE_MARGIN,
    EXPECTED_MARGIN,
    Against,
    GateConfig,
    GateDefinition,
    with_retention,
)
from schemas.config.run import RunConfig
from schemas.rule_ids import Severity


def test_definitions_ask_for_a_lower_loss_from_a_model_that_reads_its_prompt() -> None:
    assert GateConfig().definitions == (
        GateDefinition("loss_below_base", "loss", Against.BASE, 0.0, Severity.BLOCK),
        GateDefinition("loss_below_champion", "loss", Against.CHAMPION, 0.0, Severity.BLOCK),
        GateDefinition(
            "prompt_dependence_kept", "prompt_dependence", Against.BASE, -DEPENDENCE_MARGIN
        ),
    )


def test_retention_sets_have_gates_that_the_checks_change() -> None:
    changes = {
        "checks": {
            "general_loss_kept": {"limit": -0.2},
            "own": {"metric": "loss", "against": "base"},
        }
    }
    gates = with_retention(GateConfig.model_validate(changes), ["general"])
    assert gates.definitions[3:] == (
        GateDefinition("general_loss_kept", "loss/general", Against.BASE, -0.2),
        GateDefinition("own", "loss", Against.BASE),
        GateDefinition("general_expected_kept", "expected/general", Against.BASE, -EXPECTED_MARGIN),
    )


def test_run_config_refuses_a_change_to_the_gate_of_a_set_that_is_not_measured() -> None:
    checks = {"gates": {"checks": {"safety_expected_kept": {"limit": -0.1}}}}
    with pytest.raises(ValidationError, match=r"a set that evaluation\.retention does not have"):
        RunConfig.model_validate(checks)
    RunConfig.model_validate({**checks, "evaluation": {"retention": {"safety": "a.jsonl"}}})


def test_definitions_change_only_what_is_named() -> None:
    gates = GateConfig.model_validate({"checks": {"loss_below_base": {"limit": 0.1}}})
    assert gates.definitions[0] == GateDefinition("loss_below_base", "loss", Against.BASE, 0.1)


def test_definitions_end_with_gates_of_ones_own() -> None:
    own = {"metric": "exact_match", "against": "absolute", "limit": 0.5, "severity": "warn"}
    gates = GateConfig.model_validate({"checks": {"half_exact": own}})
    expected = GateDefinition("half_exact", "exact_match", Against.ABSOLUTE, 0.5, Severity.WARN)
    assert gates.definitions[-1] == expected


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ({"own": {"metric": "loss"}}, "needs metric and against"),
        ({"own": {"metric": "loss", "against": "absolute"}}, "needs a limit"),
        (
            {"own": {"metric": "judge_win_rate", "against": "absolute"}},
            "a judge needs against=base or champion",
        ),
        ({"min_eval_rows": {"limit": 3}}, "is reserved"),
        ({"Own": {}}, "pattern"),
        ({"loss_below_base": {"minimum": 3}}, "Extra inputs"),
    ],
)
def test_incomplete_gates_are_refused(checks: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GateConfig.model_validate({"checks": checks})


@pytest.mark.parametrize(
    ("confidence", "needed"), [(0.9, 200), (0.95, 400), (0.99, 2000), (0.999, 20_000)]
)
def test_too_few_resamples_for_the_level_are_refused(confidence: float, needed: int) -> None:
    assert GateConfig(confidence=confidence, n_resamples=needed).n_resamples == needed
    with pytest.raises(ValidationError, match=f"so chance would decide: set at least {needed} "):
        GateConfig(confidence=confidence, n_resamples=needed - 1)


def test_run_config_refuses_a_gate_whose_metric_is_not_measured() -> None:
    own = {"metric": "f1", "against": "base"}
    with pytest.raises(ValidationError, match="uses metric 'f1', which is not computed"):
        RunConfig.model_validate({"gates": {"checks": {"own": own}}})
    measured = {"evaluation": {"custom_metrics": {"f1": "own:f1"}, "n_generation_rows": 20}}
    config = RunConfig.model_validate({"gates": {"checks": {"own": own}}, **measured})
    assert config.gates.definitions[-1].metric == "f1"


def test_run_config_refuses_a_gate_on_a_metric_without_direction() -> None:
    own = {"metric": "length_ratio", "against": "base"}
    with pytest.raises(ValidationError, match="metric length_ratio has no better direction"):
        RunConfig.model_validate({"gates": {"checks": {"own": own}}})


def test_run_config_refuses_a_gate_on_too_few_answers() -> None:
    own = {"metric": "chrf", "against": "base"}
    with pytest.raises(
        ValidationError, match=r"compares 12 answers, fewer than gates\.min_eval_rows=20"
    ):
        RunConfig.model_validate({"gates": {"checks": {"own": own}}})
    RunConfig.model_validate({"gates": {"checks": {"own": {**own, "severity": "off"}}}})
