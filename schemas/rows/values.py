"""What a JSON value is: blank or not, a list stored as text, its kind in words."""

from __future__ import annotations

import json
import re
from typing import Any

from schemas.rows.tool_calls import parse_if_json

MOST_KEYS = 8
MOST_SHOWN_CHARACTERS = 40
NOTHING_TEXTS = ("nan", "none", "null")
"""Texts that exports write where a cell is empty."""


def is_blank(value: Any) -> bool:
    """Return True for null, white space, an empty list and an empty object."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value == [] or value == {}


def is_nothing(value: Any) -> bool:
    """Return True for a blank value and for a text that names an empty cell, such as `nan`."""
    return is_blank(value) or (isinstance(value, str) and value.strip().casefold() in NOTHING_TEXTS)


def kind_name(value: Any) -> str:
    """Return the JSON kind of a value with its article, e.g. `a list`."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def shown(value: Any) -> str:
    """Show a value in a message: short texts, numbers and null as JSON, anything else by its kind."""
    if isinstance(value, list | dict):
        return f"an empty {kind_name(value).split()[-1]}" if not value else kind_name(value)
    text = value
    if isinstance(value, str) and len(value) > MOST_SHOWN_CHARACTERS:
        text = value[: MOST_SHOWN_CHARACTERS - 1] + "…"
    return json.dumps(text, ensure_ascii=False, default=str)


def keys_shown(value: dict[str, Any]) -> str:
    """List the keys of an object for a message, the first ones if there are many."""
    names = [name[:MOST_SHOWN_CHARACTERS] for name in list(value)[:MOST_KEYS]]
    return ", ".join(names) + ("…" if len(value) > MOST_KEYS else "") or "none"


def bare_name(name: str) -> str:
    """Return a field name without its spelling: systemPrompt and system_prompt are the same."""
    return re.sub(r"[\W_]+", "", name).casefold()


def as_objects(value: Any) -> list[dict[str, Any]]:
    """Return a list of objects, also from JSON text or a single object; empty if it is not one."""
    parsed = parse_if_json(value)
    items = [parsed] if isinstance(parsed, dict) else parsed
    is_objects = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    return items if is_objects else []
