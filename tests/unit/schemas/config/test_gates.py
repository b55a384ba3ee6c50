"""Gates as the configuration names them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.config.gates import Against, GateConfig, GateDefinition
from schemas.config.run import RunConfig
from schemas.rule_ids import Severity


def test_definitions_ask_for_a_lower_loss_than_base_and_champion() -> None:
    assert GateConfig().definitions == (
        GateDefinition("loss_below_base", "loss", Against.BASE, 0.0, Severity.BLOCK),
        GateDefinition("loss_below_champion", "loss", Against.CHAMPION, 0.0, Severity.BLOCK),
    )


def test_definitions_change_only_what_is_named() -> None:
    gates = GateConfig.model_validate({"checks": {"loss_below_base": {"limit": 0.1}}})
    assert gates.definitions[0] == GateDefinition("loss_below_base", "loss", Against.BASE, 0.1)


def test_definitions_end_with_gates_of_ones_own() -> None:
    own = {"metric": "exact_match", "against": "absolute", "limit": 0.5, "severity": "warn"}
    gates = GateConfig.model_validate({"checks": {"half_exact": own}})
    expected = GateDefinition("half_exact", "exact_match", Against.ABSOLUTE, 0.5, Severity.WARN)
    assert gates.definitions[2] == expected


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


def test_run_config_refuses_a_gate_whose_metric_is_not_measured() -> None:
    own = {"metric": "f1", "against": "base"}
    with pytest.raises(ValidationError, match="uses metric 'f1', which is not computed"):
        RunConfig.model_validate({"gates": {"checks": {"own": own}}})
    measured = {"evaluation": {"custom_metrics": {"f1": "own:f1"}, "n_generation_rows": 20}}
    config = RunConfig.model_validate({"gates": {"checks": {"own": own}}, **measured})
    assert config.gates.definitions[2].metric == "f1"


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
