"""The rows that a version was trained on, by digests that are stored with it.

A model is not evaluated on rows that it has seen: another seed or fraction of the split, pinned rows,
or a version that training continues from can have trained on rows that are held out now.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from schemas.errors import ModelSourceError
from schemas.records.decision import SeenRows
from schemas.records.references import SplitReference, TemplateReference
from tasks.dataset.split_rows import Split
from tasks.engine.cache import locate
from tasks.engine.jsonl import read_jsonl
from tasks.engine.scratch import scratch_folder
from tasks.registry.store import connect, has_artifact, store_errors
from tasks.registry.versions import REGISTRY_SCHEME, find_registered
from tasks.rows.feature_table import FeatureTable

if TYPE_CHECKING:
    from tasks.engine.arrays import Hashes

TRAINED_ROWS = "trained_rows.npz"
FOLDER = "data"
"""Artifact folder of a version's run."""


@dataclass(frozen=True)
class TrainedRows:
    """Rows that a model was trained on or that chose its checkpoint, with those it continued from."""

    prompts: Hashes
    """Hashes of the normalised prompts, sorted; 8 bytes each."""
    is_complete: bool = True
    """False if it continued from a version whose rows are not known."""


def collect_trained_rows(split: SplitReference, template: TemplateReference) -> TrainedRows:
    """Collect the rows of a training: training and validation rows, and those of the start model.

    Args:
        split: Contains the hashes of all rows.
        template: Names the model that training started from.

    Returns:
        The rows; where the start is no registered version, nothing is known of it and none is asked.
    """
    import numpy

    table = FeatureTable.load(locate(split, "row_features"))
    part, prompt = table.column("part"), table.column("prompt")
    own = numpy.unique(prompt[(part == Split.TRAIN) | (part == Split.VALIDATION)])
    if not template.model_name.startswith(REGISTRY_SCHEME):
        return TrainedRows(own)
    start = read_trained_rows(template.model_name)
    if start is None:
        return TrainedRows(own, is_complete=False)
    return TrainedRows(numpy.union1d(own, start.prompts), start.is_complete)


def write_trained_rows(rows: TrainedRows, folder: Path) -> Path:
    """Write the digests to a file of the folder, and return it."""
    import numpy

    path = folder / TRAINED_ROWS
    numpy.savez(path, prompts=rows.prompts, is_complete=rows.is_complete)
    return path


def read_trained_rows(address: str) -> TrainedRows | None:
    """Read the digests of a registered version; None if they were not stored, are gone or damaged."""
    import mlflow

    try:
        run_id = find_registered(address).run_id
    except ModelSourceError:
        return None  # the version was deleted
    stored = f"{FOLDER}/{TRAINED_ROWS}"
    with scratch_folder() as scratch:
        with store_errors():
            if not run_id or not has_artifact(connect(), run_id, stored):
                return None
            path = mlflow.artifacts.download_artifacts(
                f"runs:/{run_id}/{stored}", dst_path=str(scratch)
            )
        return _load(Path(path))


def _load(path: Path) -> TrainedRows | None:
    """Load the digests; None for a file that is torn or of another kind."""
    import numpy

    try:
        # numpy leaves open a path that is no archive
        with path.open("rb") as file, numpy.load(file, allow_pickle=False) as stored:
            return TrainedRows(stored["prompts"], bool(stored["is_complete"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile):
        return None


def find_seen_rows(prompts: Path, own: TrainedRows, champion: str | None) -> SeenRows:
    """Find the held-out rows that challenger or champion was trained on.

    Args:
        prompts: `eval_prompts.jsonl`.
        own: Rows of the challenger, with those of its start.
        champion: Address of the champion's version; None without one.

    Returns:
        The rows of each, and of whom they are not known.
    """
    unknown = [] if own.is_complete else ["the version that the challenger continued from"]
    theirs = read_trained_rows(champion) if champion else None
    if champion and (theirs is None or not theirs.is_complete):
        unknown.append(f"champion {champion}")
    lines = read_jsonl(prompts)
    marks = [(int(row["row"]), int(row["group"]), int(row["digest"], 16)) for row in lines]
    return SeenRows(
        challenger=_seen(marks, own),
        champion=_seen(marks, theirs) if theirs else (),
        unknown=tuple(unknown),
    )


def _seen(marks: Collection[tuple[int, int, int]], trained: TrainedRows) -> tuple[int, ...]:
    """Return the rows of every group of which a row was trained."""
    import numpy

    digests = numpy.array([digest for *_, digest in marks], dtype=numpy.uint64)
    is_trained = numpy.isin(digests, trained.prompts).tolist()
    groups = {group for (_, group, _), found in zip(marks, is_trained, strict=True) if found}
    return tuple(row for row, group, _ in marks if group in groups)
