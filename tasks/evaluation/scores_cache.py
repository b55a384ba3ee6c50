"""Scores of models, kept by what they depend on, so that no model is measured twice.

The entries lie beside the stages' outputs and are verified in the same way, but their keys hold
the model's content and not its place in a run: a challenger that became champion, or a base that
did not change, is not loaded again by the next retrain.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefect.logging import get_run_logger

from schemas.records.references import StageReference
from tasks.engine.cache import MANIFEST, OutputFolder, look_up, stage_lock
from tasks.engine.home import work_directory
from tasks.engine.keys import StageDefinition, stage_key

Reference = TypeVar("Reference", bound=StageReference)


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to judge, which is fetched only if it has to be measured."""

    sha256: str
    """Of its content: what the registry's tag and the stages' records name it by."""
    fetch: Callable[[], AbstractContextManager[tuple[Path, Path]]]
    """Gives the folders of model and tokenizer as long as it is entered."""


def model_in(folder: Path, sha256: str) -> EvaluatedModel:
    """Describe a model whose folder lies on this disk, its tokenizer with it.

    Args:
        folder: The model folder.
        sha256: Of its content.

    Returns:
        The model.
    """

    @contextmanager
    def fetch() -> Iterator[tuple[Path, Path]]:
        yield folder, folder

    return EvaluatedModel(sha256, fetch)


def keep_scores(
    definition: StageDefinition,
    arguments: Mapping[str, Any],
    measure: Callable[[Path], Mapping[str, Any]],
    record: type[Reference],
    *,
    is_renewed: bool,
) -> Reference:
    """Give scores that were kept, or measure and keep them.

    Args:
        definition: Names the kind of scores, the code that measures them, and their record.
        arguments: Everything else they depend on.
        measure: Fills a folder and returns the record's own fields.
        record: The definition's record.
        is_renewed: Measure anew although the scores are there.

    Returns:
        The record, as it was returned when they were measured.
    """
    key = stage_key(definition, arguments)
    with stage_lock(key, lambda sentence: get_run_logger().info(sentence)):
        present = look_up(definition, key).reference
        if isinstance(present, record) and not is_renewed:
            return present
        output = OutputFolder(key)
        try:
            facts = measure(output.path)
        except BaseException:
            output.abandon()
            raise
        return output.commit(record, **facts)


def copy_scores(scores: StageReference, folder: Path) -> None:
    """Copy kept files into a stage's output, which then stands for itself.

    Args:
        scores: What `keep_scores` gave.
        folder: Where to.
    """
    for path in (work_directory() / scores.folder).iterdir():
        if path.name != MANIFEST:
            shutil.copyfile(path, folder / path.name)
