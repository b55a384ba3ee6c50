"""Files and texts without the paths of the machine they were made on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks._model_files import file_names

PATH_KEYS = frozenset(
    (
        "_name_or_path",
        "base_model_name_or_path",
        "merges_file",
        "name_or_path",
        "special_tokens_map_file",
        "tokenizer_file",
        "vocab_file",
    )
)
"""Settings in which the libraries leave the place a model was read from."""


def remove_paths(folder: Path) -> None:
    """Take this machine's paths out of the settings of a model.

    Args:
        folder: Its files; JSON settings are rewritten where they name an absolute path.
    """
    for name in file_names(folder):
        if not name.endswith("config.json"):
            continue
        path = folder / name
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        cleaned = _clean(settings)
        if cleaned != settings:
            path.write_text(json.dumps(cleaned, indent=2, ensure_ascii=False), encoding="utf-8")


def _clean(value: Any) -> Any:
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: "" if key in PATH_KEYS and _is_place(item) else _clean(item)
        for key, item in value.items()
    }


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute()
