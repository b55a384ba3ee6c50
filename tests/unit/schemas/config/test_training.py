from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config.run import RunConfig
from schemas.config.training import TrainingConfig
from schemas.rule_ids import RowRule, RuleSetting, Severity


@pytest.mark.parametrize(
    "settings",
    [
        {"num_train_epochs": math.inf},
        {"learning_rate": -1},
        {"learning_rate": math.nan},
        {"max_grad_norm": math.inf},
        {"lora": {"target_modules": []}},
        {"lora": {"target_modules": [""]}},
        {"lora": {"target_modules": ""}},
        {"lora": {"dropout": math.nan}},
        {"warmup_ratio": math.nan},
        {"weight_decay": math.inf},
        {"lr_scheduler_type": "zigzag"},
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate(settings)


def test_naming_a_limit_keeps_the_rules_own_severity() -> None:
    from schemas.rules.row_rules import row_severities

    severities = row_severities({RowRule.MIXED_FORMAT: RuleSetting(limit=0.5)})
    assert severities[RowRule.MIXED_FORMAT] is Severity.WARN
    strict = row_severities({RowRule.MIXED_FORMAT: RuleSetting(severity=Severity.BLOCK)})
    assert strict[RowRule.MIXED_FORMAT] is Severity.BLOCK


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize(
    "key",
    [
        "split.eval_fraction",
        "gates.confidence",
        "quality.rules.too_long.limit",
        "data.rules.mixed_format.limit",
    ],
)
def test_figures_that_are_not_finite_are_refused(key: str, value: float) -> None:
    settings: Any = value
    for name in reversed(key.split(".")):
        settings = {name: settings}
    with pytest.raises(ValidationError, match="finite"):
        RunConfig.model_validate(settings)


def test_polynomial_must_end_below_its_peak() -> None:
    settings = {"lr_scheduler_type": "polynomial", "learning_rate": 1e-4}
    TrainingConfig.model_validate({**settings, "lr_scheduler_kwargs": {"lr_end": 1e-5}})
    with pytest.raises(ValidationError, match=r"lr_end=0\.0001 must be below"):
        TrainingConfig.model_validate({**settings, "lr_scheduler_kwargs": {"lr_end": 1e-4}})
