"""The bar without a flow run; on a server: tests/integration/test_notifications.py."""

from __future__ import annotations

import pytest

from schemas.records.stages import Stage
from tasks.engine.run_bar import BARS, finish_progress, place, show_stage


def test_bar_does_nothing_outside_a_flow_run() -> None:
    with show_stage(Stage.TRAIN_MODEL):
        finish_progress("done")
    assert place(Stage.TRAIN_MODEL) == (0, 0)
    assert BARS == {}


def test_bar_leaves_errors_alone() -> None:
    with pytest.raises(ValueError, match=r"^bad$"), show_stage(Stage.TRAIN_MODEL):
        raise ValueError("bad")
