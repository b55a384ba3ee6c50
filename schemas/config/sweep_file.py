"""`load_sweep`: a `SweepConfig` from a YAML file and `--search key=values`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from schemas.config._plain_yaml import key_lines, parse_yaml
from schemas.config.sweep import FORMS, Dimension, SweepConfig, check_key, parse_dimension
from schemas.errors import ConfigError

EXAMPLE = "--search learning_rate=1e-5..1e-3:log"


def load_sweep(
    path: Path | None, searches: Sequence[str], limits: dict[str, Any]
) -> tuple[SweepConfig, dict[str, str]]:
    """Read what a sweep varies.

    Args:
        path: YAML file with `search` and, where wanted, the other fields of `SweepConfig`.
        searches: Texts such as `learning_rate=1e-5..1e-3:log`; they go before the file.
        limits: Other fields of `SweepConfig` from the command line; None leaves the file's.

    Returns:
        The sweep, and where each key of its search space was read.

    Raises:
        ConfigError: The file cannot be read, or a key or a value cannot be searched.
    """
    values, lines = _read_file(path) if path else ({}, {})
    written = values.pop("search", None) or {}
    if not isinstance(written, dict):
        raise _malformed(str(path), "search: with indented `key: values` lines", repr(written))
    raw: dict[str, tuple[Any, str]] = {}
    for key, value in _flatten(written):
        line = lines.get(f"search.{key}")
        place = f"{path}:{line}" if line else str(path)
        raw[check_key(key, place)] = (value, place)
    for text in searches:
        key, value = _parse_search(text)
        raw[key] = (value, f"--search {text}")
    if not raw:
        raise ConfigError(
            "nothing is named to search",
            where=str(path or "the command line"),
            expected="at least one setting of the training section",
            got="none",
            fix=f"add e.g. {EXAMPLE}",
        )
    space: dict[str, Dimension] = {
        key: parse_dimension(key, value, place) for key, (value, place) in raw.items()
    }
    values |= {name: value for name, value in limits.items() if value is not None}
    try:
        sweep = SweepConfig.model_validate({"search": space, **values})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise ConfigError(
            f"{name} of the sweep has a value that is not allowed",
            where=f"{path}:{lines[name]}" if name in lines else "the command line",
            expected=str(fault["msg"]).removeprefix("Input should be "),
            got=repr(fault["input"]),
            fix=f"known keys: {', '.join(SweepConfig.model_fields)}",
        ) from None
    return sweep, {key: place for key, (_, place) in raw.items()}


def _flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk through sections, so that `lora: {r: ...}` is read as `lora.r: ...`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _parse_search(text: str) -> tuple[str, Any]:
    where = f"--search {text}"
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(
            "a search is not of the form key=values",
            where=where,
            expected=f"a key and {FORMS}",
            got=text,
            fix=f"write it as one argument, e.g. {EXAMPLE}",
        )
    name = check_key(key, where)
    try:
        return name, parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the values to search for {name} cannot be read",
            where=where,
            expected=FORMS,
            got=value,
            fix=f"write it as one argument, e.g. {EXAMPLE}",
        ) from error


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Read the file; give its values and the line of each dotted key."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise _malformed(where, "YAML", getattr(error, "problem", None) or "no YAML") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the sweep file cannot be read",
            where=str(path),
            expected="a YAML file in UTF-8",
            got=getattr(error, "strerror", None) or type(error).__name__,
            fix="correct the path after --sweep; relative paths start in the current folder",
        ) from error
    if not isinstance(values, dict):
        raise _malformed(str(path), "a section search: with keys and values", repr(values))
    return values, key_lines(text)


def _malformed(where: str, expected: str, got: str) -> ConfigError:
    return ConfigError(
        "the sweep file cannot be understood",
        where=where,
        expected=expected,
        got=got,
        fix="write `search:` and below it lines such as `  learning_rate: 1e-5..1e-3:log`",
    )
