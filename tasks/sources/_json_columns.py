"""Tables by columns in JSON: a list or an object for each column instead of one for each row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.errors import DataSourceError
from tasks.sources._compression import DataFile
from tasks.sources._row_shapes import (
    FEW_ITEMS,
    SPEAKER_FIELDS,
    are_known,
    is_message,
    is_messages,
    is_row,
)

MOST_LEVELS = 3
"""Of objects around a list of rows."""
Path = tuple[str, ...]


def find_columns(value: dict[str, Any], path: Path = ()) -> Path | None:
    """Find a table by columns: the object itself or one in it."""
    if _is_columns(value, is_whole=not path) or _split_names(value, is_whole=not path):
        return path
    for name, item in value.items():
        if isinstance(item, dict) and len(path) < MOST_LEVELS and not is_row(item):
            found = find_columns(item, (*path, name))
            if found is not None:
                return found
    return None


def _is_columns(value: dict[str, Any], *, is_whole: bool) -> bool:
    columns = {name: item for name, item in value.items() if isinstance(item, (list, dict))}
    lists = [item for item in columns.values() if isinstance(item, list)]
    names = {name.lower() for name in columns}
    is_known = are_known(names)
    if not lists:
        return _is_numbered(value, is_known=is_known)
    if len(lists) < len(columns) or len(lists[0]) < 2 or len({len(cells) for cells in lists}) > 1:
        return False
    if any(is_message(cell) or is_row(cell) for cells in lists for cell in cells[:FEW_ITEMS]):
        return False
    if any(all(map(is_messages, cells)) for cells in lists):
        return True
    has_texts = any(not isinstance(cells[0], dict) for cells in lists)
    return is_known or (is_whole and has_texts and len(lists) == len(value) > 1)


def _is_numbered(value: dict[str, Any], *, is_known: bool) -> bool:
    """Return whether every column is an object with a cell for each row, as pandas writes it."""
    columns = list(value.values())
    if not columns or not all(isinstance(column, dict) for column in columns):
        return False
    names = columns[0].keys()
    if not names or any(column.keys() != names for column in columns):
        return False
    if all(name.isdigit() for name in names):
        return len(columns) > 1 or all(map(is_messages, columns[0].values()))
    is_other = any(map(is_row, columns)) or not SPEAKER_FIELDS.isdisjoint(names)
    return is_known and len(names) > 1 and not is_other


def _split_names(value: Mapping[str, Any], *, is_whole: bool = True) -> tuple[str, str] | None:
    """Find a list of names and a list of rows that are lists of as many cells."""
    names = [
        (name, len(item))
        for name, item in value.items()
        if isinstance(item, list) and item and all(isinstance(cell, str) for cell in item)
    ]
    tables = [
        (name, {len(row) if isinstance(row, list) else 0 for row in item})
        for name, item in value.items()
        if isinstance(item, list) and item
    ]
    for columns, n_columns in names:
        for data, widths in tables:
            is_likely = is_whole or are_known([name.lower() for name in value[columns]])
            if is_likely and widths == {n_columns} and data != columns:
                return columns, data
    return None


def by_columns(file: DataFile, value: dict[str, Any], path: Path) -> DataSourceError:
    table = value_at(value, path)
    split = _split_names(table)
    columns = table[split[0]] if split else list(table)
    place = "".join(f"[{json.dumps(name)}]" for name in path)
    made = f"v{place}" if not split else f"v{place}[{json.dumps(split[1])}], columns=v{place}"
    made += f"[{json.dumps(split[0])}]" if split else ""
    return DataSourceError(
        f"{file.name} is one object with a list for each column, not one object for each row"
        if not split
        else f"{file.name} has the names of the columns apart from the rows",
        where=file.name,
        expected='{"prompt": …, "completion": …} for each row',
        got=f"columns {', '.join(columns[:8])}",
        fix=f"write its rows: python -c 'import json, pandas; v = json.load(open("
        f'"{file.path.name}")); pandas.DataFrame({made}).to_json("rows.jsonl", orient="records", '
        "lines=True, force_ascii=False)'",
    )


def value_at(value: Any, path: Path) -> Any:
    for name in path:
        value = value[name]
    return value
