"""Turn what pydantic reports on a configuration into one error with key, place and fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from schemas.config.run import RunConfig
from schemas.errors import ConfigError

MAX_LISTED = 5
"""Wrong settings listed in one message."""
MOST_CHARACTERS = 300
"""Of a value in a message."""
REPLACED = {
    "evaluation.backend": (
        "evaluation.server.command, or nothing to generate with transformers",
        "remove it; vLLM runs as a server now: evaluation.server.command="
        "'vllm serve {model} --host 127.0.0.1 --port {port}'",
    )
}
"""Keys of earlier versions: what is expected in their place, and the fix."""


def section_keys(kind: Any) -> list[str]:
    """List the keys allowed directly in a model class or dict type; empty for a plain value."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    if get_origin(kind) is dict:
        keys = get_args(kind)[0]
        if get_origin(keys) is Literal:
            return list(get_args(keys))
        if isinstance(keys, type) and issubclass(keys, StrEnum):
            return [str(member) for member in keys]
    return []


def _inner(kind: Any, name: str) -> Any:
    """Return the type of one key of a section, or None if there is no such key."""
    if get_origin(kind) is dict and not section_keys(kind):
        return get_args(kind)[1]  # the user chooses the names
    if name not in section_keys(kind):
        return None
    if not hasattr(kind, "model_fields"):
        return get_args(kind)[1]
    found = kind.model_fields[name].annotation
    sections = [part for part in get_args(found) if section_keys(part)]
    return sections[0] if sections and type(None) in get_args(found) else found


def _kind_at(section: str) -> Any:
    """Return the type of a section by its dotted key, or None if there is no such section."""
    kind: Any = RunConfig
    for part in section.split(".") if section else []:
        kind = _inner(kind, part)
    return kind


def all_keys(kind: Any = RunConfig, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key a configuration can have."""
    for name in section_keys(kind):
        yield prefix + name
        yield from all_keys(_inner(kind, name), f"{prefix}{name}.")


def nearest_key(key: str) -> str:
    """Return the known dotted key nearest to an unknown one; empty if none is similar."""
    section, _, name = key.rpartition(".")
    known = list(all_keys())
    siblings = [f"{section}.{other}".lstrip(".") for other in section_keys(_kind_at(section))]
    for group in (siblings, known):
        names = [other.rpartition(".")[2] for other in group]
        for found in difflib.get_close_matches(name, names, n=1, cutoff=0.7):
            return group[names.index(found)]
    return "" if siblings else (difflib.get_close_matches(key, known, n=1, cutoff=0.7) or [""])[0]


def explain(error: ValidationError, places: Mapping[str, str], source: str) -> ConfigError:
    """Build one error from the first wrong setting, its place and what is correct; list the others.

    `places` maps each dotted key to where it was read; `source` is the file, for other keys.
    """
    faults = [_describe(dict(fault)) for fault in error.errors(include_url=False)]
    first = faults[0]
    others = {fault["key"]: fault["expected"] for fault in faults if fault["key"] != first["key"]}
    listed = [f"{key} ({expected})" for key, expected in list(others.items())[:MAX_LISTED]]
    tail = f"; also wrong: {', '.join(listed)}" if listed else ""
    if len(others) > MAX_LISTED:
        tail += f" and {len(others) - MAX_LISTED} more"
    return ConfigError(
        first["what"] + tail,
        where=_place(first["key"], places, source),
        expected=first["expected"],
        got=first["got"],
        fix=first["fix"],
    )


def shown(value: Any) -> str:
    """Return a value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = type(value).__name__
    left_out = len(text) - MOST_CHARACTERS
    return f"{text[:MOST_CHARACTERS]} … ({left_out:,} more characters)" if left_out > 0 else text


def _place(key: str, places: Mapping[str, str], source: str) -> str:
    names = key.split(".")
    for length in range(len(names), 0, -1):
        place = places.get(".".join(names[:length]))
        if place:
            return place
    return next((at for name, at in places.items() if name.startswith(f"{key}.")), source)


def _describe(fault: dict[str, Any]) -> dict[str, str]:
    path = [str(part) for part in fault["loc"] if part != "[key]"]
    is_unknown = fault["type"] == "extra_forbidden" or "[key]" in fault["loc"]
    if is_unknown:
        return _describe_unknown(".".join(path))
    kind: Any = RunConfig
    known: list[str] = []
    for name in path:
        inner = _inner(kind, name)
        if inner is None:
            break
        known.append(name)
        kind = inner
    key = ".".join(known)
    default = _default_of(known)
    again = f"; the default is {default}" if default else ""
    return {
        "key": key or "the configuration",
        "what": f"{key or 'the configuration'} has a value that is not allowed",
        "expected": _expectation(fault, kind),
        "got": "that combination" if fault["type"] == "value_error" else shown(fault["input"]),
        "fix": f"correct {key or 'it'} in the file or with --set {key or 'key'}=...{again}",
    }


def _expectation(fault: dict[str, Any], kind: Any) -> str:
    text = str(fault["msg"])
    for start in ("Value error, ", "Input should be "):
        text = text.removeprefix(start)
    if fault["type"] == "model_type" or fault["type"] == "dict_type":
        keys = section_keys(kind)
        text = f"a section with keys such as {', '.join(keys[:4])}" if keys else "a section"
    return (
        text.replace("String should", "a text that should")
        .replace("a valid integer", "a whole number")
        .replace("a valid ", "a ")
    )


def _describe_unknown(key: str) -> dict[str, str]:
    section, _, name = key.rpartition(".")
    if key in REPLACED:
        expected, fix = REPLACED[key]
        what = f"configuration key {key} was replaced"
        return {"key": key, "what": what, "expected": expected, "got": name, "fix": fix}
    near = nearest_key(key)
    siblings = ", ".join(section_keys(_kind_at(section)))
    return {
        "key": key,
        "what": f"unknown configuration key {key}",
        "expected": near or f"one of {siblings}",
        "got": name,
        "fix": f"did you mean {near}?" if near else f"known keys here: {siblings}",
    }


def _default_of(names: list[str]) -> str:
    """Return the default of a plain setting as it is written in a file."""
    value: Any = RunConfig()
    for name in names:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    if value is None or isinstance(value, (BaseModel, dict)):
        return ""
    return str(value)
