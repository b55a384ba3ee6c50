"""Scores of models, stored by what they depend on, so that no model is measured twice.

The entries are next to the stages' outputs and are verified in the same way, but their keys contain
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
    """A model to evaluate, which is fetched only if it has to be measured."""

    sha256: str
    """Of its content, as in the registry's tag and the stages' records."""
    fetch: Callable[[], AbstractContextManager[tuple[Path, Path]]]
    """Provides the folders of model and tokenizer while the context is open."""


def model_in(folder: Path, sha256: str) -> EvaluatedModel:
    """Describe a model whose folder, with its tokenizer, is on this disk."""

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
    """Return stored scores, or measure and store them.

    `measure` fills a folder and returns the record's own fields; the key is made of definition
    and `arguments`. With `is_renewed` the scores are measured again even if they are stored.
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
    """Copy stored files into a stage's output, which is then complete without them."""
    for path in (work_directory() / scores.folder).iterdir():
        if path.name != MANIFEST:
            shutil.copyfile(path, folder / path.name)
