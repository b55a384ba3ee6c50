from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.config.run import RunConfig
from schemas.config.storage import StorageConfig


def test_there_is_no_limit_by_default() -> None:
    assert RunConfig().storage == StorageConfig(max_size_gb=None, max_age_days=None)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["max_size_gb", "max_age_days"])
def test_limits_are_numbers_above_0(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        StorageConfig.model_validate({name: value})
