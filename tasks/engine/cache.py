"""The stages' cache: content keys, verified outputs, and a reason for every miss.

An output is a folder `stages/<stage>/<key>/` in the work directory. It is written under a
temporary name and renamed when complete; `manifest.json`, written last, lists every file with
its sha256 and contains the record the stage returned.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from schemas.records.references import StageReference
from tasks.engine.files import write_atomic
from tasks.engine.home import work_directory
from tasks.engine.keys import StageDefinition, StageKey, explain_absence, file_sha256, last_key_path
from tasks.engine.locks import take_turns

MANIFEST = "manifest.json"
Reference = TypeVar("Reference", bound=StageReference)


@dataclass(frozen=True)
class Lookup:
    """What the cache contains for a key: a verified record, or the reason there is none."""

    key: StageKey
    reference: StageReference | None
    reason: str
    n_files: int = 0


def locate(reference: StageReference, name: str) -> Path:
    """Return the absolute path of a file or folder in a stage's output."""
    return work_directory() / reference.folder / name


def look_up(definition: StageDefinition, key: StageKey) -> Lookup:
    """Find the output of a key and verify every file of it against the manifest."""
    folder = work_directory() / key.folder
    if not folder.is_dir():
        return Lookup(key, None, explain_absence(key))
    with suppress(OSError):
        os.utime(folder)  # the time of the last use, by which old outputs are removed
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


def generation(key: StageKey, *, is_renewed: bool) -> int:
    """Return the number to append to Prefect's cache key, so that a stale record is not found.

    A new number is random, not counted: Prefect's records may be outside the work directory, and a
    new work directory that counted from one would find those of the old.

    Args:
        key: The stage's key.
        is_renewed: True when the present output does not count: the number becomes a new one.

    Returns:
        The number; 0 until the first is made.
    """
    path = work_directory() / f"{key.folder}.generation"
    number = 0
    with suppress(OSError, ValueError):
        number = int(path.read_text(encoding="utf-8"))
    if is_renewed:
        number = uuid.uuid4().int >> 64
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, str(number))
    return number


@contextmanager
def stage_lock(key: StageKey, tell: Callable[[str], object]) -> Iterator[None]:
    """Let one run at a time compute a key; another waits, and then finds the output."""
    path = work_directory() / f"{key.folder}.lock"
    with take_turns(path, tell, f"another run computes the same {key.stage}: waiting for it"):
        yield


@dataclass
class OutputFolder:
    """A stage's output while it is being written."""

    key: StageKey
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the folder under a temporary name, next to its final place.

        The key is locked, so what a killed run left of the same key can be removed.
        """
        stage = work_directory() / "stages" / self.key.stage
        for leftover in stage.glob(f".tmp-{self.key.digest}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self.path = stage / f".tmp-{self.key.digest}-{uuid.uuid4().hex[:12]}"
        self.path.mkdir(parents=True)

    def commit(
        self, result_type: type[Reference], *, content: tuple[str, ...] = (), **facts: Any
    ) -> Reference:
        """Hash the files, write the manifest, and move the folder to its place.

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
        write_atomic(self.path / MANIFEST, json.dumps(manifest, indent=1))
        final = work_directory() / self.key.folder
        with discarding(final):
            self.path.rename(final)
        write_atomic(last_key_path(self.key.stage), json.dumps(self.key.parts, indent=1))
        return reference

    def abandon(self) -> None:
        """Remove what was written, after a failure."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def discarding(folder: Path) -> Iterator[None]:
    """Move an output away in one step, so that no part of it is read; delete it after the block.

    Deleting a model takes a while; what another run reads there must be back before that.
    """
    # Named as what a killed run leaves, which is removed when the key is computed the next time.
    condemned = folder.with_name(f".tmp-{folder.name}-{uuid.uuid4().hex[:12]}")
    if folder.exists():
        folder.rename(condemned)
    yield
    shutil.rmtree(condemned, ignore_errors=True)
