"""Outputs of stages that a test puts into a work directory, as the stages write them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from schemas.records.references import StageReference, VersionReference
from tasks.engine.cache import OutputFolder
from tasks.engine.home import store_name, work_directory
from tasks.engine.keys import StageDefinition, StageKey, stage_key

MODULE = "schemas.records.stages"


def key_of(stage: str, **arguments: Any) -> StageKey:
    """Make the key of a stage whose code is of no interest."""
    return stage_key(StageDefinition(stage, MODULE, StageReference), arguments)


def store(
    stage: str,
    n_bytes: int = 100,
    days: float = 0.0,
    kind: type[Any] = StageReference,
    **given: Any,
) -> Any:
    """Write an output made of `given`, last used `days` ago; its fields are under `facts`."""
    facts = given.pop("facts", {})
    output = OutputFolder(key_of(stage, **given))
    content = f"{stage} {sorted(given)} {given.get('seed')} ".encode()
    (output.path / "content").write_bytes(content.ljust(n_bytes, b".")[:n_bytes])
    reference = output.commit(kind, **facts)
    use(reference, days)
    return reference


def store_version(
    name: str, version: int, days: float = 0.0, uri: str = "", **evidence: StageReference
) -> Any:
    """Write the output of `register_model` for a version made of the evidence, in the present store."""
    facts = {"name": name, "version": version, "run_id": "r", "experiment_id": "1"}
    facts |= {"model_uri": "models:/m-1", "tracking_uri": uri or store_name()}
    given: dict[str, Any] = {"evidence": evidence, "seed": version, "facts": facts}
    return store("register_model", days=days, kind=VersionReference, **given)


def use(reference: StageReference, days: float) -> None:
    """Let the last use of an output be some days ago."""
    at = time.time() - days * 86_400
    os.utime(work_directory() / reference.folder, (at, at))


def stored(reference: StageReference) -> bool:
    """Return whether the output is still there, in full."""
    folder: Path = work_directory() / reference.folder
    return (folder / "content").is_file() and (folder / "manifest.json").is_file()
