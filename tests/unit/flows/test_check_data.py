from __future__ import annotations

import inspect

from flows.check_data import check_data
from schemas.config.run import RunConfig


def test_flow_takes_a_config_and_stages_to_refresh() -> None:
    assert check_data.name == "check-data"
    parameters = inspect.signature(check_data.fn).parameters
    assert list(parameters) == ["config", "refresh"]
    assert parameters["config"].default == RunConfig()
