"""A refresh trains from the beginning, a retry of the same run goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.context import FlowRunContext

from tasks.train_model import forget_earlier_runs, weight_parts


def be_in_run(monkeypatch: pytest.MonkeyPatch, run_id: object) -> None:
    context = SimpleNamespace(flow_run=SimpleNamespace(id=run_id))
    monkeypatch.setattr(FlowRunContext, "get", lambda: context)


def test_refresh_forgets_the_checkpoints_of_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "checkpoint-5").mkdir(parents=True)
    be_in_run(monkeypatch, uuid4())
    forget_earlier_runs(checkpoints)
    assert not (checkpoints / "checkpoint-5").exists()
    (checkpoints / "checkpoint-5").mkdir()
    forget_earlier_runs(checkpoints)  # a retry of this run
    assert (checkpoints / "checkpoint-5").exists()
    be_in_run(monkeypatch, uuid4())
    forget_earlier_runs(checkpoints)
    assert not (checkpoints / "checkpoint-5").exists()


def test_weight_parts_leave_out_limits_and_what_is_kept() -> None:
    kept = {"config training.learning_rate": "1", "config training.eval_steps": "2", "code": "a"}
    idle = ("guards.spike_factor", "save_steps", "save_total_limit", "logging_steps")
    assert weight_parts(kept | {f"config training.{name}": "3" for name in idle}) == kept
