"""Rows that a JSON value contains instead of being one: lists in objects, pages, tables by columns."""

from __future__ import annotations

import json
from typing import Any

from schemas.errors import DataSourceError
from tasks.sources._compression import DataFile
from tasks.sources._json_columns import MOST_LEVELS, Path, by_columns, find_columns, value_at
from tasks.sources._row_shapes import (
    ANSWERS,
    QUESTIONS,
    is_list_of_rows,
    is_message,
    is_messages,
    is_row,
)

ROW_FIELDS = frozenset(
    ("messages", "conversations", "prompt", "completion", "instruction", "output")
)
METADATA_FIELDS = frozenset(
    [
        "author",
        "authors",
        "citation",
        "copyright",
        "created",
        "created_at",
        "date",
        "description",
        "homepage",
        "id",
        "info",
        "language",
        "license",
        "name",
        "schema",
        "source",
        "split",
        "task",
        "title",
        "type",
        "updated",
        "url",
        "version",
    ]
)
"""Texts next to a list of objects; with another text, such as a question, an object is a row
itself unless the objects of its list look like rows."""
SHARED_FIELDS = frozenset(
    ("system", "system_prompt", "system_message", "instruction", "tools", "functions")
)
"""Next to a list of rows they apply to each of them."""
PAGE_FIELDS = frozenset(("data", "rows", "items", "records", "results"))
"""What services call the rows of a page."""
OTHER_MESSAGES = frozenset(("rejected", "history", "context"))
"""Of a row, next to others."""


def rows_in(file: DataFile, value: Any, *, is_alone: bool) -> list[Any] | None:
    """Take the rows out of a value.

    Args:
        file: The file, for errors.
        value: A value of it.
        is_alone: It is the only one of the file. Of several, each counts as a row unless it has
            what looks like rows.

    Returns:
        The rows; None where the value is a row itself.

    Raises:
        DataSourceError: It has several lists of rows, something next to them that applies to each
            row, cells that were cut, or is a table by columns.
    """
    if isinstance(value, list):
        return value if is_list_of_rows(value) else None
    if not isinstance(value, dict):
        return None
    if is_alone and _is_by_id(value):
        raise _by_id(file, value)
    if is_row(value):
        return None
    pages = _rows_of_the_hub(file, value)
    if pages is not None or not is_alone:
        return pages or _rows_of_a_page(value)
    return _rows_of_the_only_object(file, value)


def _rows_of_the_only_object(file: DataFile, value: dict[str, Any]) -> list[Any] | None:
    """Take the rows out of an object that contains them at any place."""
    found = find_columns(value)
    if found is not None:
        raise by_columns(file, value, found)
    lists = _find_rows(value) or _other_lists(value)
    if not lists:
        return None
    if len(lists) > 1:
        raise _several(file, lists)
    [(path, rows)] = lists.items()
    parent = value_at(value, path[:-1])
    shared = [name for name in parent if name.lower() in SHARED_FIELDS and name != path[-1]]
    if shared and parent[shared[0]]:
        raise _with_shared(file, path, shared[0])
    return rows


def _is_by_id(value: dict[str, Any]) -> bool:
    """Return whether an object has the messages of several rows by their ids."""
    names = {name.lower() for name in value}
    is_row_itself = not names.isdisjoint(ROW_FIELDS | QUESTIONS | ANSWERS | OTHER_MESSAGES)
    return len(value) > 1 and not is_row_itself and all(map(is_messages, value.values()))


def _rows_of_the_hub(file: DataFile, value: dict[str, Any]) -> list[Any] | None:
    """Take the rows out of a page of the Hub's rows API, which cuts long cells."""
    items = value.get("rows")
    if not isinstance(items, list) or not items or "features" not in value:
        return None
    if not all(isinstance(item, dict) and isinstance(item.get("row"), dict) for item in items):
        return None
    n_cut = sum(bool(item.get("truncated_cells")) for item in items)
    if n_cut:
        raise DataSourceError(
            f"{file.name} is a page of the Hub's rows API, which cut texts of {n_cut} rows",
            where=file.name,
            expected="complete rows",
            got=f"truncated_cells in {n_cut} of {len(items)} rows",
            fix="name the dataset itself: data.source.source=owner/name",
        )
    return [item["row"] for item in items]


def _rows_of_a_page(value: dict[str, Any]) -> list[Any] | None:
    """Take the rows out of one of several answers of a service; any other list may be a dialogue."""
    lists = [name for name, item in value.items() if isinstance(item, list)]
    is_page = len(lists) == 1 and lists[0] in PAGE_FIELDS and is_list_of_rows(value[lists[0]])
    return value[lists[0]] if is_page else None


def _find_rows(value: dict[str, Any], path: Path = ()) -> dict[Path, list[Any]]:
    """Find lists of what looks like rows, and objects of rows by their id, at any place."""
    if value and (all(map(is_row, value.values())) or _has_equal_rows(value)):
        return {path: [_with_id(name, row) for name, row in value.items()]}
    found: dict[Path, list[Any]] = {}
    for name, item in value.items():
        if is_list_of_rows(item):
            found[*path, name] = item
        elif isinstance(item, dict) and len(path) < MOST_LEVELS and not is_row(item):
            found |= _find_rows(item, (*path, name))
    return found


def _has_equal_rows(value: dict[str, Any]) -> bool:
    """Return whether each of several values is an object with the same names of texts."""
    rows = list(value.values())
    return (
        len(rows) > 2
        and all(isinstance(row, dict) and len(row) > 1 for row in rows)
        and all(row.keys() == rows[0].keys() for row in rows)
        and all(isinstance(text, str) for row in rows for text in row.values())
    )


def _with_id(name: str, row: dict[str, Any]) -> dict[str, Any]:
    return row if "id" in row else {"id": name, **row}


def _other_lists(value: dict[str, Any], path: Path = ()) -> dict[Path, list[Any]]:
    """Find lists of objects of any kind in an object that is no row, or in the only one in it."""
    texts = {name.lower() for name, item in value.items() if isinstance(item, str)}
    if not ROW_FIELDS.isdisjoint(value) or not texts <= METADATA_FIELDS:
        return {}
    found = {
        (*path, name): items
        for name, items in value.items()
        if isinstance(items, list)
        and items
        and all(isinstance(item, dict) and not is_message(item) for item in items)
    }
    inner = [name for name, item in value.items() if isinstance(item, (dict, list))]
    if not found and len(inner) == 1 and len(path) < MOST_LEVELS:
        item = value[inner[0]]
        return _other_lists(item, (*path, inner[0])) if isinstance(item, dict) else {}
    return found


def _jq_path(path: Path) -> str:
    return "." + "".join(f"[{json.dumps(name)}]" for name in path)


def _by_id(file: DataFile, value: dict[str, Any]) -> DataSourceError:
    return DataSourceError(
        f"{file.name} is one object with the messages of each row by its id",
        where=file.name,
        expected='{"messages": […]} for each row',
        got=f"{', '.join(list(value)[:5])}",
        fix="write its rows: jq -c 'to_entries[] | {id: .key, messages: .value}' "
        f"{file.path.name} > rows.jsonl",
    )


def _several(file: DataFile, lists: dict[Path, list[Any]]) -> DataSourceError:
    path = next(iter(lists))
    return DataSourceError(
        f"{file.name} is one object with several lists of rows",
        where=file.name,
        expected="one list of rows",
        got=", ".join(f"{'.'.join(path)} ({len(items):,})" for path, items in lists.items()),
        fix=f"write each list to a file of its own, e.g. jq -c '{_jq_path(path)}[]' "
        f"{file.path.name} > {'-'.join(path)}.jsonl",
    )


def _with_shared(file: DataFile, path: Path, shared: str) -> DataSourceError:
    added = f"{{{json.dumps(shared)}: {_jq_path((*path[:-1], shared)).replace('.', '$all', 1)}}}"
    return DataSourceError(
        f"{file.name} has {shared} next to its list of rows, which would be lost",
        where=file.name,
        expected=f"{shared} in each row, or a list of rows alone",
        got=f"{shared} next to {'.'.join(path)}",
        fix=f"write it into each row: jq -c '. as $all | {_jq_path(path)}[] | . + {added}' "
        f"{file.path.name} > rows.jsonl",
    )
