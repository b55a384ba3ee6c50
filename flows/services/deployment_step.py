"""The build step of a prefect.yaml that `sft-flow init` writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from schemas.config.file import load_config
from schemas.errors import ConfigError
from schemas.redaction import has_credentials


def read_configuration(path: str) -> dict[str, Any]:
    """Check a configuration file when it is deployed, so that a deployment and `run -c` use the same.

    Args:
        path: The file, in the folder where `prefect deploy` runs.

    Returns:
        `config`, the settings that the file contains, and `folder`, where the runs start.

    Raises:
        ConfigError: An address contains a password or a signature.
    """
    config = load_config(Path(path)).model_dump(mode="json", exclude_unset=True)
    if has_credentials(json.dumps(config)):
        raise ConfigError(
            "an address contains a password or a signature, which Prefect would store and show",
            where=path,
            expected="addresses without credentials in a configuration that is deployed",
            fix="give the credentials in the environment of the worker, or use a copy of the data",
        )
    return {"config": config, "folder": os.getcwd()}
