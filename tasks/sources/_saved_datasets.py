"""Folders that `save_to_disk` of the datasets library wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.errors import DataSourceError

SPLITS_FILE = "dataset_dict.json"
"""Of a folder with a folder for each split."""
STATE_FILE = "state.json"
"""Next to the rows of a single dataset."""
SAVE_AGAIN = "copy the complete folder again, or write the rows with to_json or to_parquet"


def saved_files(folder: Path, name: str, split: str) -> tuple[Path, ...]:
    """List the files with the rows of a saved dataset, in their order.

    Args:
        folder: A folder.
        name: What to call it in messages.
        split: Which split, if it has several.

    Returns:
        The files; none if the folder is no saved dataset.

    Raises:
        DataSourceError: It has no such split, or is not complete.
    """
    if (folder / SPLITS_FILE).is_file():
        names = _read_json(folder / SPLITS_FILE).get("splits")
        if isinstance(names, list) and all(isinstance(found, str) for found in names):
            folder = _folder_of_split(folder, name, split, names)
    state_file = folder / STATE_FILE
    if not state_file.is_file():
        return ()
    state = _read_json(state_file)
    listed = state.get("_data_files")
    if not isinstance(listed, list):
        return ()
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataSourceError(
            f"{name} was saved by an old version of the datasets library, with a separate index",
            where=str(state_file),
            expected="a dataset whose files have its rows in their order",
            got="rows that an index selects",
            fix="load it with the datasets library, call flatten_indices() and save it again",
        )
    return _existing_files(
        folder,
        name,
        [found.get("filename") if isinstance(found, dict) else found for found in listed],
    )


def _folder_of_split(folder: Path, name: str, split: str, names: list[str]) -> Path:
    if split not in names:
        raise DataSourceError(
            f"the saved dataset {name} has no split {split}",
            where="data.source.split",
            expected=f"one of its splits: {', '.join(names) or 'it has none'}",
            got=split,
            fix=f"set data.source.split={names[0]}" if names else SAVE_AGAIN,
        )
    found = folder / split
    if not (found / STATE_FILE).is_file():
        raise DataSourceError(
            f"split {split} of the saved dataset {name} is missing",
            where=str(found),
            expected=f"a folder with {STATE_FILE} and the files of the rows",
            got="no such folder" if not found.is_dir() else f"no {STATE_FILE}",
            fix=SAVE_AGAIN,
        )
    return found


def _existing_files(folder: Path, name: str, names: list[Any]) -> tuple[Path, ...]:
    missing = [
        str(found)
        for found in names
        if not isinstance(found, str) or Path(found).name != found or not (folder / found).is_file()
    ]
    if missing or not names:
        raise DataSourceError(
            f"the saved dataset {name} is not complete",
            where=str(folder),
            expected=f"the files that {STATE_FILE} lists",
            got=f"no {', '.join(missing[:5])}" if missing else "no file listed",
            fix=SAVE_AGAIN,
        )
    return tuple(folder / found for found in names)


def _read_json(path: Path) -> dict[str, Any]:
    """Read a file about a dataset; what is no JSON object counts as empty."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
