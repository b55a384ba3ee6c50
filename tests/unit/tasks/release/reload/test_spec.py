from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.config.evaluation import EvaluationConfig
from tasks.release.reload.spec import EvaluatedSettings, stop_ids, weights_dtype
from tests.support.toy import make_toy_model


@pytest.mark.parametrize(("given", "expected"), [(2, (2,)), ([5, 2], (2, 5)), (None, ()), ([], ())])
def test_stop_ids_come_in_one_form(
    given: int | list[int] | None, expected: tuple[int, ...]
) -> None:
    assert stop_ids(given) == expected


def test_weights_dtype_is_that_of_the_most_numbers(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    assert weights_dtype(make_toy_model(tmp_path / "toy")) == "float32"
    half = torch.zeros(3, 5, dtype=torch.bfloat16)
    save_file({"a": half, "b": torch.zeros(14)}, tmp_path / "model.safetensors")
    assert weights_dtype(tmp_path) == "bfloat16"


def test_settings_of_a_version_that_an_earlier_sft_flow_registered_are_read() -> None:
    settings = EvaluatedSettings(
        model_sha256="m",
        template_sha256="t",
        stop_token_ids=(2,),
        dtype="float32",
        device="cpu",
        eval_sha256="e",
        seed=1,
        evaluation=EvaluationConfig(max_new_tokens=7),
    )
    stored = settings.model_dump(mode="json")
    earlier = {**stored, "backend": "transformers"}
    earlier["evaluation"] = {**stored["evaluation"], "backend": "auto"}
    assert EvaluatedSettings.model_validate_json(json.dumps(earlier)) == settings
    assert EvaluatedSettings.model_validate(stored) == settings
