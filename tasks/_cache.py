"""The cache that cannot lie: content keys, verified outputs, and a reason for every miss.

An output is a folder `stages/<stage>/<key>/` in the work directory. It is written under a
temporary name and renamed when whole; `manifest.json`, written last, lists every file with
its sha256 and holds the record the stage returned.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.records import StageReference
from tasks._code import code_sha256
from tasks._home import work_directory

MANIFEST = "manifest.json"
Reference = TypeVar("Reference", bound=StageReference)


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


@dataclass(frozen=True)
class Lookup:
    """What the cache holds for a key: a verified record, or the reason there is none."""

    key: StageKey
    reference: StageReference | None
    reason: str
    n_files: int = 0


def file_sha256(path: Path) -> str:
    """Hash a file without holding it in memory.

    Args:
        path: The file.

    Returns:
        Hexadecimal sha256.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def locate(reference: StageReference, name: str) -> Path:
    """Find a file of a stage's output.

    Args:
        reference: Record the stage returned.
        name: File or folder within the output.

    Returns:
        Its absolute path.
    """
    return work_directory() / reference.folder / name


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
        parts[f"config {name}"] = json.dumps(value, sort_keys=True)


def look_up(definition: StageDefinition, key: StageKey) -> Lookup:
    """Find the output of a key and verify every file of it.

    Args:
        definition: The stage.
        key: What `stage_key` computed.

    Returns:
        The record when everything is as it was written, otherwise the reason for the miss.
    """
    folder = work_directory() / key.folder
    if not folder.is_dir():
        return Lookup(key, None, _explain_absence(key))
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        reference = definition.result_type.model_validate(manifest["result"])
        files = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        return Lookup(key, None, f"its manifest is missing or damaged ({type(error).__name__})")
    for name, sha256 in files.items():
        path = folder / name
        if not path.is_file():
            return Lookup(key, None, f"output {name} was deleted")
        if file_sha256(path) != sha256:
            return Lookup(key, None, f"output {name} was damaged")
    problem = definition.verify(reference) if definition.verify else ""
    return Lookup(key, None if problem else reference, problem or "unchanged", len(files))


def _explain_absence(key: StageKey) -> str:
    """Compare with the stage's last key, part by part."""
    last = _last_key_path(key.stage)
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


def _last_key_path(stage: str) -> Path:
    return work_directory() / "stages" / stage / "last_key.json"


def generation(key: StageKey, *, is_renewed: bool) -> int:
    """Number the outputs of a key, so that a stale record is never found again.

    The numbers are drawn, not counted: the task runner's records may lie outside the work
    directory, and a new work directory that counted from one would find those of the old.

    Args:
        key: The stage's key.
        is_renewed: True when the present output does not count: a new number is drawn.

    Returns:
        The number to append to the task runner's cache key.
    """
    path = work_directory() / f"{key.folder}.generation"
    number = 0
    with suppress(OSError, ValueError):
        number = int(path.read_text(encoding="utf-8"))
    if is_renewed:
        number = uuid.uuid4().int >> 64
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, str(number))
    return number


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Args:
        path: Where to; replaced if it exists.
        text: The new content.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


@dataclass
class OutputFolder:
    """A stage's output while it is being written."""

    key: StageKey
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the folder under a temporary name, beside its final place."""
        self.path = work_directory() / "stages" / self.key.stage / f".tmp-{uuid.uuid4().hex[:12]}"
        self.path.mkdir(parents=True)

    def commit(
        self, result_type: type[Reference], *, content: tuple[str, ...] = (), **facts: Any
    ) -> Reference:
        """Hash the files, write the manifest, and put the folder in its place.

        Args:
            result_type: The record to return.
            content: Files or folders that later stages read; all when empty. Name them when
                others (timings, logs) differ from run to run.
            **facts: The record's own fields.

        Returns:
            The record, as a later hit will return it.
        """
        files = {
            path.relative_to(self.path).as_posix(): file_sha256(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        covered = {
            name: sha256
            for name, sha256 in files.items()
            if not content or name.split("/")[0] in content
        }
        digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
        reference = result_type(
            stage=self.key.stage, folder=self.key.folder, sha256=digest, **facts
        )
        manifest = {
            "key": self.key.parts,
            "files": files,
            "result": reference.model_dump(mode="json"),
        }
        write_whole(self.path / MANIFEST, json.dumps(manifest, indent=1))
        final = work_directory() / self.key.folder
        discard(final)
        self.path.rename(final)
        write_whole(_last_key_path(self.key.stage), json.dumps(self.key.parts, indent=1))
        return reference

    def abandon(self) -> None:
        """Remove what was written, after a failure."""
        shutil.rmtree(self.path, ignore_errors=True)


def discard(folder: Path) -> None:
    """Take an output away in one step: renamed first, so that no half of it can be read.

    Args:
        folder: The output folder; nothing happens when there is none.
    """
    if folder.exists():
        condemned = folder.with_name(f".old-{uuid.uuid4().hex[:12]}")
        folder.rename(condemned)
        shutil.rmtree(condemned, ignore_errors=True)
