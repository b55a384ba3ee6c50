from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config.retrain import RetrainConfig


def test_one_new_row_is_a_reason_and_age_and_drift_are_none() -> None:
    assert RetrainConfig().model_dump() == {
        "min_new_rows": 1,
        "max_age_days": None,
        "min_drift": None,
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"min_new_rows": 0},
        {"max_age_days": 0},
        {"max_age_days": float("inf")},
        {"min_drift": 0},
        {"min_drift": float("nan")},
    ],
)
def test_limits_that_no_run_could_mean_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetrainConfig.model_validate(settings)
