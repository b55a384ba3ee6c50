"""Keys: of a stage's call, with everything that shapes its output, and of Prefect's artifacts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.records.references import StageReference
from tasks.engine._code_hash import code_sha256
from tasks.engine.home import work_directory
from tasks.engine.redaction import public_settings

SLUG_DIGITS = 6


@dataclass(frozen=True)
class StageDefinition:
    """What the key and the check of one stage depend on.

    `fingerprint` names what lies outside the work directory (a source file, a hub commit);
    `verify` looks at what a hit claims outside it (a registry version) and returns what is
    wrong, or an empty string.
    """

    name: str
    module: str
    result_type: type[StageReference]
    libraries: tuple[str, ...] = ()
    assets: tuple[Path, ...] = ()
    fingerprint: Callable[[Mapping[str, Any]], str] | None = None
    verify: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class StageKey:
    """Everything that shapes an output, by name, and the digest of it all."""

    stage: str
    parts: dict[str, str]

    @property
    def digest(self) -> str:
        """Hash the parts; equal parts give equal digests on every machine."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def folder(self) -> str:
        """Name the output folder, relative to the work directory."""
        return f"stages/{self.stage}/{self.digest}"


def file_sha256(path: Path) -> str:
    """Hash a file without holding it in memory.

    Args:
        path: The file.

    Returns:
        Hexadecimal sha256.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stage_key(definition: StageDefinition, arguments: Mapping[str, Any]) -> StageKey:
    """Compute the key of one call.

    Args:
        definition: The stage.
        arguments: Parameter name to value: records count by content, the rest by value.

    Returns:
        The key, with one named part for each thing that can change.
    """
    parts = {"stage": definition.name, "code": code_sha256(definition.module)}
    for name, value in arguments.items():
        _flatten(name, value, parts)
    for library in definition.libraries:
        parts[f"library {library}"] = importlib.metadata.version(library)
    for asset in definition.assets:
        parts[f"file {asset.name}"] = file_sha256(asset)
    if definition.fingerprint:
        parts["source content"] = definition.fingerprint(arguments)
    return StageKey(definition.name, parts)


def _flatten(name: str, value: Any, parts: dict[str, str]) -> None:
    """Name every leaf: records by the content they refer to, settings by value."""
    if isinstance(value, StageReference):
        parts[f"input {name}"] = value.sha256
    elif isinstance(value, BaseModel):
        for field_name in type(value).model_fields:
            _flatten(f"{name}.{field_name}", getattr(value, field_name), parts)
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, parts)
    else:
        parts[f"config {name}"] = json.dumps(public_settings(value), sort_keys=True)


def explain_absence(key: StageKey) -> str:
    """Compare with the stage's last key, part by part.

    Args:
        key: A key without an output.

    Returns:
        What changed.
    """
    last = last_key_path(key.stage)
    try:
        former: dict[str, str] = json.loads(last.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "first run of this stage"
    changed = [
        f"{name} {_short(former.get(name))} → {_short(key.parts.get(name))}"
        for name in sorted(former.keys() | key.parts.keys())
        if former.get(name) != key.parts.get(name)
    ]
    return f"changed: {'; '.join(changed)}" if changed else "its output was deleted"


def _short(text: str | None) -> str:
    if text is None:
        return "(none)"
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:8] if is_digest else text


def last_key_path(stage: str) -> Path:
    """Name the file with the parts of the last key a stage was computed for.

    Args:
        stage: The stage's name.

    Returns:
        A path in the work directory.
    """
    return work_directory() / "stages" / stage / "last_key.json"


def slug(name: str) -> str:
    """Make of a registered name what Prefect accepts as the beginning of an artifact's key.

    Args:
        name: Registered model name.

    Returns:
        Lowercase letters, digits and dashes. A name that is not of these alone gets some digits
        of its sha256, so that "FAQ 1" and "faq-1" do not share a history.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:SLUG_DIGITS]}"
