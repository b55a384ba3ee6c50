from __future__ import annotations

import inspect

from flows.retrain_model import retrain_model
from schemas.config.run import RunConfig


def test_flow_takes_a_config_and_stages_to_refresh() -> None:
    assert retrain_model.name == "retrain"
    parameters = inspect.signature(retrain_model.fn).parameters
    assert list(parameters) == ["config", "refresh"]
    assert parameters["config"].default == RunConfig()
