from __future__ import annotations

import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from schemas.config.training import TrainingConfig
from schemas.errors import WorkDirectoryError
from tasks.training.plan.space import needed_bytes, require_temporary_space

Usage = namedtuple("Usage", ["total", "used", "free"])
N_PARAMETERS = 1_000_000


@pytest.mark.parametrize(
    ("settings", "n_bytes"),
    [
        # Base and tuned 8 MB; 4 checkpoints of weights and two averages 48 MB; a tenth more.
        ({"method": "full", "save_total_limit": 2}, 61_600_000),
        ({"method": "full", "save_total_limit": 1}, 48_400_000),
        # An adapter's checkpoints, 4 x 12 x 0.04 MB, are less than the registered copy.
        ({"method": "lora", "lora": {"r": 16}}, 13_200_000),
    ],
)
def test_needed_bytes_holds_models_and_checkpoints(
    settings: dict[str, object], n_bytes: int
) -> None:
    training = TrainingConfig.model_validate(settings)
    assert needed_bytes(N_PARAMETERS, training) == n_bytes


def test_a_model_that_does_not_fit_into_the_temporary_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 4_000_000))
    require_temporary_space(N_PARAMETERS)
    with pytest.raises(WorkDirectoryError, match="folder for temporary files") as caught:
        require_temporary_space(N_PARAMETERS + 1)
    assert caught.value.where == f"{tmp_path} (TMPDIR)"
    assert (caught.value.exit_code, caught.value.is_retryable) == (2, False)
