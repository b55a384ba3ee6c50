"""The cache that cannot lie: content keys, verified outputs, and a reason for every miss.

An output is a folder `stages/<stage>/<key>/` in the work directory. It is written under a
temporary name and renamed when whole; `manifest.json`, written last, lists every file with
its sha256 and holds the record the stage returned.
"""

from __future__ import annotations

import hashlib
import json
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
    """What the cache holds for a key: a verified record, or the reason there is none."""

    key: StageKey
    reference: StageReference | None
    reason: str
    n_files: int = 0


def locate(reference: StageReference, name: str) -> Path:
    """Find a file of a stage's output.

    Args:
        reference: Record the stage returned.
        name: File or folder within the output.

    Returns:
        Its absolute path.
    """
    return work_directory() / reference.folder / name


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
        return Lookup(key, None, explain_absence(key))
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
        write_atomic(path, str(number))
    return number


@contextmanager
def stage_lock(key: StageKey, tell: Callable[[str], object]) -> Iterator[None]:
    """Let one run at a time compute a key; another waits, and then finds the output.

    Args:
        key: The stage's key.
        tell: Gets a sentence when there is another to wait for.

    Yields:
        Nothing, while the lock is held; it is released when the process ends, however it ends.
    """
    path = work_directory() / f"{key.folder}.lock"
    with take_turns(path, tell, f"another run computes the same {key.stage}: waiting for it"):
        yield


@dataclass
class OutputFolder:
    """A stage's output while it is being written."""

    key: StageKey
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the folder under a temporary name, beside its final place.

        The key's lock is held, so what a killed run left of the same key can go.
        """
        stage = work_directory() / "stages" / self.key.stage
        for leftover in stage.glob(f".tmp-{self.key.digest}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self.path = stage / f".tmp-{self.key.digest}-{uuid.uuid4().hex[:12]}"
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
    """Take an output away in one step, so that no half of it can be read, and delete it later.

    Deleting a model takes a while; what another run reads there must be back before that.

    Args:
        folder: The output folder; there need be none.

    Yields:
        Nothing, when the place is free and the old output not yet deleted.
    """
    # Named as what a killed run leaves, which goes when the key is computed the next time.
    condemned = folder.with_name(f".tmp-{folder.name}-{uuid.uuid4().hex[:12]}")
    if folder.exists():
        folder.rename(condemned)
    yield
    shutil.rmtree(condemned, ignore_errors=True)
