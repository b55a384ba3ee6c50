"""The user's accelerate file decides about processes, or is refused in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config.training import Distribution, TrainingConfig
from schemas.errors import ConfigError
from tasks.training.plan.accelerate_file import accelerate_file_sha256, with_accelerate_file

DEVICE = "/dev/zero"


def configured(path: Path) -> TrainingConfig:
    return TrainingConfig(accelerate_config=str(path))


def test_without_a_file_nothing_changes() -> None:
    assert with_accelerate_file(TrainingConfig(processes=3)) == TrainingConfig(processes=3)


@pytest.mark.parametrize(
    ("kind", "distribution"), [("FSDP", Distribution.FSDP), ("MULTI_GPU", Distribution.DDP)]
)
def test_file_decides_about_processes(
    tmp_path: Path, kind: str, distribution: Distribution
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"distributed_type: {kind}\nnum_processes: 4\n")
    found = with_accelerate_file(configured(path))
    assert (found.processes, found.distribution) == (4, distribution)
    assert found.accelerate_config == str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_processes: many\n", "num_processes, a whole number from 1"),
        ("distributed_type: FSDP\n", "num_processes, a whole number from 1"),
        ("- a\n", "a YAML mapping"),
        ("a: [", "a YAML file made by accelerate config"),
        (None, "a YAML file made by accelerate config"),
        (DEVICE, "a YAML file made by accelerate config"),
    ],
)
def test_unusable_file_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "a.yaml"
    if text == DEVICE:
        path.symlink_to(text)
    elif text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        with_accelerate_file(configured(path))
    assert words in caught.value.expected
    assert str(path) in caught.value.where


def test_changed_file_changes_the_key(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("num_processes: 1\n")
    first = accelerate_file_sha256({"training": configured(path)})
    path.write_text("num_processes: 2\n")
    assert first != accelerate_file_sha256({"training": configured(path)})
    assert accelerate_file_sha256({"training": TrainingConfig()}) == ""
