"""The build step of a prefect.yaml that `sft-flow init` writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from schemas.config.file import load_config


def read_configuration(path: str) -> dict[str, Any]:
    """Check a configuration file when it is deployed, so that a deployment and `run -c` use the same.

    Args:
        path: The file, in the folder where `prefect deploy` runs.

    Returns:
        `config`, the settings that the file contains, and `folder`, where the runs start.
    """
    config = load_config(Path(path))
    return {
        "config": config.model_dump(mode="json", exclude_unset=True),
        "folder": os.getcwd(),
    }
