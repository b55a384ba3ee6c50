"""Write the page of all settings, `docs/configuration.md`, from `RunConfig`: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from schemas.config.run import RunConfig
from schemas.tables.rules import table

HEADER = """\
# Configuration

Written by `make docs` from `schemas/config/run.py` and the files it imports; do not edit. A configuration is a YAML
or TOML file with the sections below; a key that it does not contain keeps its default, and `--set section.key=value`
overrides one key. An unknown key or a wrong value is an error that names its line and what was expected.
"""


def setting_table() -> str:
    """Write the page of all settings in Markdown, one table per section."""
    names = ("key", "type", "default", "meaning")
    parts = [HEADER]
    for title, section in _sections(RunConfig, ""):
        rows = [
            (f"`{name}`", _type_words(field.annotation), _default(field), field.description or "")
            for name, field in section.model_fields.items()
            if _inner_section(field.annotation) is None or title
        ]
        parts.extend((f"## {title or 'Top level'}\n", table(names, rows)))
    return "\n".join(parts)


def _sections(kind: type[BaseModel], title: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each section before its subsections."""
    yield title, kind
    for name, field in kind.model_fields.items():
        inner = _inner_section(field.annotation)
        if inner is not None:
            is_named = get_origin(field.annotation) is dict
            yield from _sections(inner, f"{title}.{name}".lstrip(".") + (".<name>" * is_named))


def _inner_section(annotation: Any) -> type[BaseModel] | None:
    """Find the section in a field's type: itself, an optional one, or a dict of sections."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Literal:
        return None
    for part in get_args(annotation):
        found = _inner_section(part)
        if found is not None:
            return found
    return None


def _type_words(annotation: Any) -> str:
    """Describe a type in the words of a YAML file."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(f"`{member}`" for member in annotation)
    if annotation is JsonValue:
        return "value"
    plain = {str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null"}
    if annotation in plain:
        return plain[annotation]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is dict:
        return f"{_type_words(parts[1])} by name"
    if origin is tuple:
        return f"list of {_type_words(parts[0])}"
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _type_words(parts[0])
    return " or ".join(_type_words(part) for part in parts) or str(annotation)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`" if value != "" else "empty"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(setting_table(), encoding="utf-8")
