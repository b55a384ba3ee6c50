"""Stage `split_dataset`: part rows into training, validation and evaluation, the same way each time.

Rows whose normalised prompts are equal, or that nearly repeat each other, form a group; a group
stands on one side. The first row of a group decides where, by the hash of its prompt, so that rows
appended later do not move the others, unless one is like two groups at once and joins them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from schemas.config.run import SplitConfig
from schemas.records.references import CheckedReference, SplitReference
from schemas.rule_ids import RowRule, Severity
from tasks.dataset.pinned_rows import pinned_fingerprint, write_pinned
from tasks.dataset.row_pass import SetPass
from tasks.dataset.split_rows import (
    Split,
    choose_splits,
    group_positions,
    group_rows,
    keep_for_validation,
    splits_besides_pinned,
)
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.keys import file_sha256
from tasks.engine.stage import stage_task
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.rows.near_duplicates import NearDuplicateIndex
from tasks.sources.stored_rows import kept_blocks


@dataclass(frozen=True)
class SplitCounts:
    """What `split.json` says."""

    n_train_rows: int
    n_eval_rows: int
    n_unused_rows: int
    """Held out beyond max_eval_rows, or too like a pinned evaluation row: neither trained nor judged."""
    n_validation_rows: int
    """Measured while training."""
    n_groups: int
    """Groups of rows with the same prompt or nearly the same text."""


def compare_all(files: Sequence[Path], table: FeatureTable, similarity: float) -> None:
    """Measure rows, and find which nearly repeat each other.

    Args:
        files: Files of conversations, as `check_schema` writes them.
        table: Gets the features.
        similarity: From which rows count as near duplicates.
    """
    with (
        tempfile.TemporaryDirectory(dir=table.folder.parent) as scratch,
        NearDuplicateIndex(Path(scratch), similarity) as duplicates,
    ):
        features = FeatureRequest(similarity=similarity, has_sample=True, has_stable_prompts=True)
        # The rows were checked when they were kept.
        request = CheckRequest(dict.fromkeys(RowRule, Severity.OFF), features=features)
        check = SetPass(request, table, duplicates)
        blocks = chain.from_iterable(kept_blocks(path) for path in files)
        for _ in check.outcomes(blocks, None):
            pass
        check.finish()


def write_splits(files: Sequence[Path], sides: Any, folder: Path) -> None:
    """Write the rows of each side to a file of its own, in their order.

    Args:
        files: Files of conversations.
        sides: The `Split` of each of their rows.
        folder: Gets `train.jsonl`, `eval.jsonl`, `unused.jsonl` and `validation.jsonl`.
    """
    with ExitStack() as stack:
        streams = [stack.enter_context((folder / side.file).open("wb")) for side in Split]
        rows = chain.from_iterable(stack.enter_context(path.open("rb")) for path in files)
        for side, row in zip(sides.tolist(), rows, strict=True):
            streams[side].write(row)


def split_rows(
    kept: Path, split: SplitConfig, seed: int, similarity: float, folder: Path
) -> SplitCounts:
    """Measure the rows, decide on their sides, and write them.

    Args:
        kept: A file of conversations, as `check_schema` writes it.
        split: Fractions, and limit of the evaluation rows, or evaluation rows of their own.
        seed: Of the run.
        similarity: From which rows count as near duplicates.
        folder: Gets a file of rows for each side, `row_features/` and `split.json`.

    Returns:
        The counts.
    """
    files, n_pinned = [kept], 0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if split.pinned:
            files.insert(0, Path(scratch) / "pinned.jsonl")
            n_pinned = write_pinned(split.pinned, files[0])
        table = FeatureTable(folder / "row_features")
        compare_all(files, table, similarity)
        prompt = table.column("prompt")
        groups = group_rows(prompt, table.column("cluster"))
        if split.pinned:
            sides = splits_besides_pinned(groups, n_pinned)
            keep_for_validation(sides, group_positions(groups, prompt, seed), split)
        else:
            sides = choose_splits(groups, prompt, split, seed)
        write_splits(files, sides, folder)
    table.append("part", sides)
    table.save()
    n_rows = [int((sides == side).sum()) for side in Split]
    n_train, n_eval, n_unused, n_validation = n_rows
    n_groups = len(set(groups.tolist()))
    counts = SplitCounts(n_train, n_eval, n_unused, n_validation, n_groups)
    (folder / "split.json").write_text(json.dumps(asdict(counts), indent=1), encoding="utf-8")
    return counts


@stage_task(
    timeout_seconds=2 * 3600,
    libraries=("polars", "rensa", "scipy", "xxhash"),
    fingerprint=pinned_fingerprint,
)
def split_dataset(
    output: OutputFolder,
    checked: CheckedReference,
    split: SplitConfig,
    seed: int,
    similarity: float,
) -> SplitReference:
    """Hold out rows for evaluation; rows with the same or nearly the same text stay together.

    Args:
        output: Gets `train.jsonl`, `eval.jsonl`, `unused.jsonl`, `validation.jsonl`,
            `row_features/`, `split.json`.
        checked: The kept rows.
        split: Fractions, and limit of the evaluation rows, or evaluation rows of their own.
        seed: Of the run.
        similarity: From which rows count as near duplicates.

    Returns:
        Reference to all sides.
    """
    counts = split_rows(locate(checked, "kept.jsonl"), split, seed, similarity, output.path)
    return output.commit(
        SplitReference,
        n_train_rows=counts.n_train_rows,
        n_eval_rows=counts.n_eval_rows,
        n_validation_rows=counts.n_validation_rows,
        n_unused_rows=counts.n_unused_rows,
        is_pinned=split.pinned is not None,
        train_sha256=file_sha256(output.path / "train.jsonl"),
        eval_sha256=file_sha256(output.path / "eval.jsonl"),
    )
