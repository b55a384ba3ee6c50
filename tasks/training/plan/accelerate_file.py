"""The user's accelerate configuration file: number of processes and how weights are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.config.training import Distribution, TrainingConfig
from schemas.errors import ConfigError
from schemas.small_files import read_small_text

WHERE = "training.accelerate_config"


def with_accelerate_file(training: TrainingConfig) -> TrainingConfig:
    """Take the number of processes and their distribution from the user's accelerate file.

    Args:
        training: The configuration; `accelerate_config` is the path of the file.

    Returns:
        The configuration with `processes` and `distribution` from the file.

    Raises:
        ConfigError: The file is missing, is no YAML mapping or sets no number of processes.
    """
    if training.accelerate_config is None:
        return training
    path = Path(training.accelerate_config).expanduser().absolute()
    settings = _read(path)
    processes = settings.get("num_processes")
    if not isinstance(processes, int) or processes < 1:
        raise ConfigError(
            "the accelerate file sets no number of processes",
            where=f"{WHERE}: {path}",
            expected="num_processes, a whole number from 1",
            got=repr(processes),
            fix="create the file again: accelerate config --config_file PATH",
        )
    is_sharded = settings.get("distributed_type") == "FSDP"
    return training.model_copy(
        update={
            "accelerate_config": str(path),
            "processes": processes,
            "distribution": Distribution.FSDP if is_sharded else Distribution.DDP,
        }
    )


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        settings = yaml.safe_load(read_small_text(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            "the accelerate file cannot be read",
            where=f"{WHERE}: {path}",
            expected="a YAML file made by accelerate config",
            got=str(error).splitlines()[0],
            fix="correct the path, or create the file: accelerate config --config_file PATH",
        ) from error
    if not isinstance(settings, Mapping):
        raise ConfigError(
            "the accelerate file contains no settings",
            where=f"{WHERE}: {path}",
            expected="a YAML mapping, as accelerate config writes it",
            got=type(settings).__name__,
            fix="create the file again: accelerate config --config_file PATH",
        )
    return settings


def accelerate_file_sha256(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the file, empty without one, so that a changed file trains again."""
    from tasks.engine.keys import file_sha256

    path = Path(arguments["training"].accelerate_config or "").expanduser()
    return file_sha256(path) if path.is_file() else ""
