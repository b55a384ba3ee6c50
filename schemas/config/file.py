"""`load_config`: a `RunConfig` from a YAML or TOML file and `--set key=value` overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.config._errors import explain, section_keys, shown
from schemas.config.plain_yaml import MOST_LEVELS, YamlError, key_lines, parse_yaml
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.nesting import is_deep
from schemas.small_files import read_small_text

YAML_ENDINGS = (".yaml", ".yml")
TOML_ENDINGS = (".toml",)


@dataclass
class Settings:
    """Settings as read, and where each dotted key was found."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration; a key that is not given keeps its default.

    Args:
        path: A .yaml, .yml or .toml file; None for the defaults alone.
        overrides: Texts such as `training.learning_rate=1e-4`, applied in order after the
            file; the value is read as YAML.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: The file is missing or malformed, a key is unknown or a value is wrong.
    """
    if path:
        _check_ending(path)
    settings = read_settings(path) if path else Settings()
    for override in overrides:
        _apply_override(settings, override)
    _require_shallow(settings, str(path or "--set"))
    try:
        return RunConfig.model_validate(settings.values)
    except ValidationError as error:
        raise explain(error, settings.places, str(path or "")) from None


def read_settings(path: Path, kind: str = "configuration", option: str = "-c") -> Settings:
    """Read a TOML file, by its ending, or a YAML file.

    Args:
        path: The file.
        kind: What it is, for messages.
        option: The option of the command line that names it.

    Returns:
        Its values, unchecked.

    Raises:
        ConfigError: The file is missing or malformed.
    """
    text = _read_text(path, kind, option)
    is_toml = path.suffix.lower() in TOML_ENDINGS
    settings = (_parse_toml if is_toml else _parse_yaml)(path, text, kind)
    _require_shallow(settings, str(path))
    return settings


def _require_shallow(settings: Settings, where: str) -> None:
    if is_deep(settings.values, MOST_LEVELS):
        raise ConfigError(
            "the settings are nested too deeply",
            where=where,
            expected=f"at most {MOST_LEVELS} levels",
            got="more",
            fix="write the keys as docs/configuration.md lists them",
        )


def _check_ending(path: Path) -> None:
    ending = path.suffix.lower()
    if ending not in YAML_ENDINGS + TOML_ENDINGS:
        raise ConfigError(
            "the configuration file has an unknown ending",
            where=str(path),
            expected=", ".join(YAML_ENDINGS + TOML_ENDINGS),
            got=ending or "no ending",
            fix="write the configuration as YAML or TOML with one of these endings",
        )


def _read_text(path: Path, kind: str, option: str) -> str:
    try:
        return read_small_text(path, "utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"the {kind} file does not exist",
            where=str(path),
            expected="a .yaml, .yml or .toml file",
            got="no such file",
            fix=f"correct the path after {option}; relative paths start in the current folder",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the {kind} file cannot be read",
            where=str(path),
            expected="a readable UTF-8 text file",
            got=getattr(error, "strerror", None) or type(error).__name__,
            fix="check that it is a file, its permissions and its encoding",
        ) from error


def _parse_yaml(path: Path, text: str, kind: str) -> Settings:
    try:
        values = parse_yaml(text)
    except YamlError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"the {kind} file is not valid YAML",
            where=f"{path}{line}",
            expected="keys and values, indented with spaces, each key once",
            got=problem.partition(" with value ")[0],  # it may be secret
            fix="fix that line",
        ) from error
    if values is None:
        return Settings()
    _require_mapping(values, str(path), kind)
    return Settings(values, {key: f"{path}:{line}" for key, line in key_lines(text).items()})


def _parse_toml(path: Path, text: str, kind: str) -> Settings:
    try:
        return Settings(tomllib.loads(text))
    except (ValueError, RecursionError) as error:  # the second for thousands of brackets
        problem, found, place = str(error).rpartition(" (at ")
        line = "".join(letter for letter in place.split(",")[0] if letter.isdigit() and found)
        raise ConfigError(
            f"the {kind} file is not valid TOML",
            where=f"{path}:{line}" if line else str(path),
            expected="key = value lines under [section] headings",
            got=problem or str(error),
            fix="fix that line",
        ) from error


_EXAMPLES = {"sweep": ["search", "trials"]}


def _require_mapping(values: Any, where: str, kind: str) -> None:
    if not isinstance(values, dict):
        raise ConfigError(
            f"the {kind} is not a set of keys and values",
            where=where,
            expected=f"keys such as {', '.join(_EXAMPLES.get(kind, section_keys(RunConfig)[:4]))}",
            got=type(values).__name__,
            fix="write `key: value` lines, or `section:` lines with indented `key: value` lines below",
        )


def _apply_override(settings: Settings, override: str) -> None:
    """Set one dotted key and create the sections above it that are missing."""
    key, equals, text = override.partition("=")
    key = key.strip()
    names = key.split(".")
    if not equals or not all(names):
        raise ConfigError(
            "an override is not of the form key=value",
            where=f"--set {override}",
            expected="a dotted key and a value, e.g. training.learning_rate=1e-4",
            got=override,
            fix="write it as one argument: --set key.sub=value",
        )
    try:
        value = parse_yaml(text)
    except YamlError as error:
        raise ConfigError(
            f"the value of {key} cannot be read",
            where=f"--set {override}",
            expected="a number, a word, true, false, null, [a, b] or {a: b}",
            got=shown(text),
            fix="quote the value for YAML, e.g. --set 'key=\"a: b\"'",
        ) from error
    section = settings.values
    for name in names[:-1]:
        inner = section.get(name)
        section[name] = dict(inner) if isinstance(inner, Mapping) else {}
        section = section[name]
    section[names[-1]] = value
    settings.places[key] = f"--set {override}"
