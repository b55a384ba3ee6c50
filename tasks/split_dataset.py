"""Stage `split_dataset`: split rows into training, validation and evaluation, the same way each time.

Rows whose normalised prompts are equal, that share most of their text, or that continue each other
form a group, which stays in one split. The hash of the first row's prompt decides which, so that rows appended later do not
move the others, unless one is like two groups at once and joins them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from schemas.config.run import SplitConfig
from schemas.records.references import CheckedReference, SplitReference
from schemas.rule_ids import RowRule, Severity
from tasks.dataset.pinned_rows import PinnedRules, pinned_fingerprint, write_pinned
from tasks.dataset.repeats import repeats
from tasks.dataset.row_pass import SetPass
from tasks.dataset.split_rows import (
    Split,
    choose_splits,
    continued_rows,
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
    """Contents of `split.json`."""

    n_train_rows: int
    n_eval_rows: int
    n_unused_rows: int
    """Held out beyond max_eval_rows, or too like a pinned row: neither trained nor evaluated."""
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
        features = FeatureRequest(similarity=similarity, has_sample=True, for_split=True)
        # The rows were checked when they were kept.
        request = CheckRequest(dict.fromkeys(RowRule, Severity.OFF), features=features)
        check = SetPass(request, table, duplicates)
        check.run(chain.from_iterable(kept_blocks(path) for path in files))
        check.finish()


def write_splits(files: Sequence[Path], parts: Sequence[int], folder: Path) -> None:
    """Write the rows of each split to a file of its own, in their order."""
    with ExitStack() as stack:
        streams = [stack.enter_context((folder / part.file).open("wb")) for part in Split]
        rows = chain.from_iterable(stack.enter_context(path.open("rb")) for path in files)
        for part, row in zip(parts, rows, strict=True):
            streams[part].write(row)


def split_rows(
    kept: Path,
    split: SplitConfig,
    seed: int,
    similarity: float,
    folder: Path,
    pinned_rules: PinnedRules | None = None,
) -> SplitCounts:
    """Measure the rows, choose their splits, and write them.

    Args:
        kept: A file of conversations, as `check_schema` writes it.
        split: Fractions, and limit of the evaluation rows, or pinned evaluation rows.
        seed: Of the run.
        similarity: From which rows count as near duplicates.
        folder: Gets a file of rows for each split, `row_features/` and `split.json`.
        pinned_rules: What pinned rows are checked against; None: the rules with their defaults.

    Returns:
        The counts.
    """
    files, n_pinned = [kept], 0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if split.pinned:
            files.insert(0, Path(scratch) / "pinned.jsonl")
            n_pinned = write_pinned(split.pinned, files[0], pinned_rules or PinnedRules())
        table = FeatureTable(folder / "row_features")
        compare_all(files, table, similarity)
        prompt = table.column("prompt")
        _, earlier = repeats(prompt)
        continued = continued_rows(table.column("whole"), table.column("continued"))
        groups = group_rows(earlier, table.column("cluster"), continued)
        if split.pinned:
            parts = splits_besides_pinned(groups, n_pinned)
            keep_for_validation(parts, group_positions(groups, prompt, seed), split)
        else:
            parts = choose_splits(groups, prompt, split, seed)
        write_splits(files, parts.tolist(), folder)
    table.append("part", parts)
    table.append("group", groups)
    table.save()
    n_train, n_eval, n_unused, n_validation = (int((parts == part).sum()) for part in Split)
    n_groups = len(set(groups.tolist()))
    counts = SplitCounts(n_train, n_eval, n_unused, n_validation, n_groups)
    (folder / "split.json").write_text(json.dumps(asdict(counts), indent=1), encoding="utf-8")
    return counts


@stage_task(
    timeout_seconds=2 * 3600,
    fingerprint=pinned_fingerprint,
)
def split_dataset(
    output: OutputFolder,
    checked: CheckedReference,
    split: SplitConfig,
    seed: int,
    similarity: float,
    pinned_rules: PinnedRules | None = None,
) -> SplitReference:
    """Set rows apart for evaluation; rows with the same or nearly the same text stay together.

    Args:
        output: Gets `train.jsonl`, `eval.jsonl`, `unused.jsonl`, `validation.jsonl`,
            `row_features/`, `split.json`.
        checked: The kept rows.
        split: Fractions, and limit of the evaluation rows, or pinned evaluation rows.
        seed: Of the run.
        similarity: From which rows count as near duplicates.
        pinned_rules: What pinned rows are checked against; None: the rules with their defaults.

    Returns:
        Reference to all splits.
    """
    kept = locate(checked, "kept.jsonl")
    counts = split_rows(kept, split, seed, similarity, output.path, pinned_rules)
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
