"""Keys: of a stage's call, with everything that shapes its output, and of Prefect's artifacts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from schemas.base import FETCHED
from schemas.records.references import StageReference
from tasks.engine._code_hash import code_sha256
from tasks.engine._libraries import library_versions
from tasks.engine.home import work_directory
from tasks.engine.redaction import public_settings

DERIVED = "derived "
"""Parts with what a record or section computes from its fields, such as the gates with defaults."""
SLUG_DIGITS = 6
ANY: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass(frozen=True)
class StageDefinition:
    """What the key and the check of one stage depend on.

    `libraries` are those that no module of this product imports, such as one that another library loads by
    name; imported ones count without being named. `fingerprint` returns the content outside the work directory (a source file, a hub commit);
    `verify` checks what a hit claims outside it (a registry version) and returns what is wrong, or
    an empty string.
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
        """Output folder, relative to the work directory."""
        return f"stages/{self.stage}/{self.digest}"


def file_sha256(path: Path) -> str:
    """Return a file's hexadecimal sha256, without loading it into memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stage_key(definition: StageDefinition, arguments: Mapping[str, Any]) -> StageKey:
    """Compute the key of one call, with one named part for each thing that can change.

    In the arguments records count by content, the rest by value.
    """
    parts = {"stage": definition.name, "code": code_sha256(definition.module)}
    for name, value in arguments.items():
        _flatten(name, value, parts)
    for library, version in library_versions(definition.module, definition.libraries).items():
        parts[f"library {library}"] = version
    for asset in definition.assets:
        parts[f"file {asset.name}"] = file_sha256(asset)
    if definition.fingerprint:
        parts["source content"] = definition.fingerprint(arguments)
    return StageKey(definition.name, parts)


def settings_parts(name: str, value: Any) -> dict[str, str]:
    """Return the parts that a key has of one argument, such as a section of the configuration."""
    parts: dict[str, str] = {}
    _flatten(name, value, parts)
    return parts


def _flatten(name: str, value: Any, parts: dict[str, str], *, is_fetched: bool = False) -> None:
    """Add a part for every leaf: records by the content they refer to, settings by value."""
    if isinstance(value, StageReference):
        parts[f"input {name}"] = value.sha256
    elif isinstance(value, BaseModel):
        for field_name, field in type(value).model_fields.items():
            is_fetched = FETCHED in field.metadata
            part = f"{name}.{field_name}"
            _flatten(part, getattr(value, field_name), parts, is_fetched=is_fetched)
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, parts, is_fetched=is_fetched)
    elif is_fetched:
        parts[f"config {name}"] = _plain_json(public_settings(value))
    else:
        parts[f"config {name}"] = _shown_with_digest(value)
    if isinstance(value, BaseModel):
        for property_name, item in _properties(value):
            digest = hashlib.sha256(_plain_json(item).encode()).hexdigest()
            parts[f"{DERIVED}{name}.{property_name}"] = digest


def _shown_with_digest(value: Any) -> str:
    """Return a value as JSON; one with a secret without it, and with a digest of the whole value."""
    raw, shown = _plain_json(value), _plain_json(public_settings(value))
    if raw == shown:
        return shown
    return f"{shown} of sha256 {hashlib.sha256(raw.encode()).hexdigest()}"


def _properties(value: BaseModel) -> Iterator[tuple[str, Any]]:
    """Yield what a record or section computes from its fields: its behaviour, as values."""
    for kind in type(value).__mro__:
        if kind.__module__.partition(".")[0] == "schemas":
            for name, member in vars(kind).items():
                if isinstance(member, property):
                    found = getattr(value, name)
                    is_set = isinstance(found, (set, frozenset))
                    yield name, ANY.dump_python(sorted(found) if is_set else found, mode="json")


def _plain_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def explain_absence(key: StageKey) -> str:
    """Return what changed since the stage's last key, part by part."""
    last = last_key_path(key.stage)
    try:
        previous: dict[str, str] = json.loads(last.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "first run of this stage"
    names = [
        name
        for name in sorted(previous.keys() | key.parts.keys())
        if previous.get(name) != key.parts.get(name)
    ]
    # What follows from a setting is news only where the setting is as it was.
    changed = [
        f"{name} {_short(previous.get(name))} → {_short(key.parts.get(name))}"
        for name in [one for one in names if not one.startswith(DERIVED)] or names
    ]
    return f"changed: {'; '.join(changed)}" if changed else "its output was deleted"


def _short(text: str | None) -> str:
    if text is None:
        return "(none)"
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:8] if is_digest else text


def last_key_path(stage: str) -> Path:
    """Return the file with the parts of the last key that a stage was computed for."""
    return work_directory() / "stages" / stage / "last_key.json"


def slug(name: str) -> str:
    """Return a registered name in lowercase letters, digits and dashes, as artifact keys need it.

    A name that is not of these alone gets some digits of its sha256, so that "FAQ 1" and "faq-1" do
    not share a history.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:SLUG_DIGITS]}"
