"""A refresh trains from the beginning, a retry of the same run goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.context import FlowRunContext

from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError
from tasks.engine.keys import stage_key
from tasks.train_model import check_adapters, forget_earlier_runs, train_model, weight_parts
from tests.support.evaluations import template_reference, write_quality
from tests.support.families import make_family
from tests.support.toy import make_toy_model


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


def test_adapters_are_checked_until_the_model_was_trained_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    make_family("llama").save_pretrained(tmp_path / "stages" / "t" / "model")
    template = template_reference()
    quality = write_quality(tmp_path, make_toy_model(tmp_path / "toy"))
    training = TrainingConfig.model_validate({"lora": {"target_modules": ["no_such_layer"]}})
    arguments: dict[str, Any] = {
        "template": template,
        "quality": quality,
        "training": training,
        "seed": 1,
    }
    with pytest.raises(ConfigError, match="no such layer"):
        check_adapters(**arguments)
    (tmp_path / stage_key(train_model.definition, arguments).folder).mkdir(parents=True)
    check_adapters(**arguments)
