"""Stage `split_dataset`: part rows into training and evaluation, the same way each time.

Rows whose normalised prompts are equal, or that nearly repeat each other, form a group; a group
stands on one side. The first row of a group decides where, by the hash of its prompt, so that rows
appended later do not move the others, unless one is like two groups at once and joins them.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import IntEnum
from itertools import chain
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.records import CheckedReference, SplitReference
from schemas.rules import RowRule, Severity
from schemas.run_config import SplitConfig
from tasks._cache import OutputFolder, locate
from tasks._comparisons import repeats
from tasks._features import FeatureTable
from tasks._keys import file_sha256
from tasks._pinned import pinned_fingerprint, write_pinned
from tasks._row_check import CheckRequest
from tasks._row_features import FeatureRequest
from tasks._set_check import SetPass
from tasks._similarity import NearDuplicateIndex
from tasks._stage import stage_task
from tasks._stored_rows import kept_blocks


class Side(IntEnum):
    """Where a row goes; also the name of its file."""

    TRAIN = 0
    EVAL = 1
    UNUSED = 2

    @property
    def file(self) -> str:
        """Name of the side's file."""
        return f"{self.name.lower()}.jsonl"


@dataclass(frozen=True)
class SplitCounts:
    """What `split.json` says."""

    n_train_rows: int
    n_eval_rows: int
    n_unused_rows: int
    """Held out beyond max_eval_rows, or too like a pinned evaluation row: neither trained nor judged."""
    n_groups: int
    """Groups of rows with the same prompt or nearly the same text."""


def prompt_position(prompt: int, seed: int) -> float:
    """Give a prompt its place between 0 and 1, by hash, so that it never depends on other rows.

    Args:
        prompt: 64-bit hash of the normalised prompt.
        seed: Of the run.

    Returns:
        sha256(seed, prompt) over 2^256; groups below the evaluation fraction are held out.
    """
    digest = hashlib.sha256(f"{seed}\n{prompt:016x}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def group_rows(prompt: Any, cluster: Any) -> Any:
    """Find the groups that must not be parted.

    Args:
        prompt: Hash of each row's prompt.
        cluster: For each row the first of those that nearly repeat each other.

    Returns:
        For each row the first row of its group.

    Shape:
        prompt, cluster and the result: (rows).
    """
    import numpy
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_rows = len(prompt)
    rows = numpy.arange(n_rows)
    _, earlier = repeats(prompt)
    same_prompt = numpy.where(earlier < 0, rows, earlier)
    ends = numpy.concatenate([same_prompt, cluster.astype(numpy.int64)])
    links = coo_array(
        (numpy.ones(2 * n_rows, dtype=bool), (numpy.concatenate([rows, rows]), ends)),
        shape=(n_rows, n_rows),
    )
    _, labels = connected_components(links, directed=False)
    _, first, inverse = numpy.unique(labels, return_index=True, return_inverse=True)
    return first[inverse]


def choose_sides(groups: Any, prompt: Any, split: SplitConfig, seed: int) -> Any:
    """Decide for every row where it goes.

    Args:
        groups: For each row the first of its group.
        prompt: Hash of each row's prompt.
        split: Fraction and upper limit of the evaluation rows.
        seed: Of the run.

    Returns:
        The `Side` of each row.

    Raises:
        ConfigError: One side would be empty.
    """
    import numpy

    positions = numpy.zeros(len(groups))
    for first in numpy.unique(groups).tolist():
        positions[first] = prompt_position(int(prompt[first]), seed)
    positions = positions[groups]
    sides: Any = numpy.full(len(groups), int(Side.TRAIN), dtype=numpy.uint8)
    held_out = numpy.flatnonzero(positions < split.eval_fraction)
    if not len(held_out) or len(held_out) == len(groups):
        raise _empty_side(positions, split, "training" if len(held_out) else "evaluation")
    ranked = held_out[numpy.lexsort((held_out, positions[held_out]))]
    sides[ranked[: split.max_eval_rows]] = Side.EVAL
    sides[ranked[split.max_eval_rows :]] = Side.UNUSED
    return sides


def _empty_side(positions: Any, split: SplitConfig, side: str) -> ConfigError:
    """Say which fraction would leave rows on both sides."""
    lowest = math.floor(float(min(positions)) * 1000 + 1) / 1000
    highest = math.floor(float(max(positions)) * 1000) / 1000
    n_groups = len(set(positions.tolist()))
    would_do = f"set split.eval_fraction to a value from {lowest:.3f} to {highest:.3f}"
    return ConfigError(
        f"the split would leave no {side} row",
        where="split.eval_fraction",
        expected="at least one group of rows with the same or nearly the same text on each side",
        got=f"{split.eval_fraction:g} of {n_groups:,} groups in {len(positions):,} rows",
        fix=would_do if lowest <= highest else "add rows with other prompts",
    )


def sides_beside_pinned(groups: Any, n_pinned: int) -> Any:
    """Train every row but those that stand in a group with a pinned evaluation row.

    Args:
        groups: For each row, pinned ones first, the first of its group.
        n_pinned: Pinned rows.

    Returns:
        The `Side` of each row.

    Raises:
        ConfigError: No row is left to train.
    """
    import numpy

    sides = numpy.where(groups < n_pinned, int(Side.UNUSED), int(Side.TRAIN)).astype(numpy.uint8)
    sides[:n_pinned] = Side.EVAL
    if not (sides == Side.TRAIN).any():
        raise ConfigError(
            "every row is like a pinned evaluation row, so none is left to train",
            where="split.pinned",
            got=f"{n_pinned:,} pinned rows and {len(groups) - n_pinned:,} others",
            fix="pin rows that are not part of the training data",
        )
    return sides


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


def write_sides(files: Sequence[Path], sides: Any, folder: Path) -> None:
    """Write the rows of each side to a file of its own, in their order.

    Args:
        files: Files of conversations.
        sides: The `Side` of each of their rows.
        folder: Gets `train.jsonl`, `eval.jsonl` and `unused.jsonl`.
    """
    with ExitStack() as stack:
        streams = [stack.enter_context((folder / side.file).open("wb")) for side in Side]
        rows = chain.from_iterable(stack.enter_context(path.open("rb")) for path in files)
        for side, row in zip(sides.tolist(), rows, strict=True):
            streams[side].write(row)


def split_rows(
    kept: Path, split: SplitConfig, seed: int, similarity: float, folder: Path
) -> SplitCounts:
    """Measure the rows, decide on their sides, and write them.

    Args:
        kept: A file of conversations, as `check_schema` writes it.
        split: Fraction and limit of the evaluation rows, or rows of their own.
        seed: Of the run.
        similarity: From which rows count as near duplicates.
        folder: Gets `train.jsonl`, `eval.jsonl`, `unused.jsonl`, `row_features/`, `split.json`.

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
            sides = sides_beside_pinned(groups, n_pinned)
        else:
            sides = choose_sides(groups, prompt, split, seed)
        write_sides(files, sides, folder)
    table.append("part", sides)
    table.save()
    n_rows = [int((sides == side).sum()) for side in Side]
    counts = SplitCounts(n_rows[0], n_rows[1], n_rows[2], len(set(groups.tolist())))
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
        output: Gets `train.jsonl`, `eval.jsonl`, `unused.jsonl`, `row_features/`, `split.json`.
        checked: The kept rows.
        split: Fraction and limit of the evaluation rows, or rows of their own.
        seed: Of the run.
        similarity: From which rows count as near duplicates.

    Returns:
        Reference to both sides.
    """
    counts = split_rows(locate(checked, "kept.jsonl"), split, seed, similarity, output.path)
    return output.commit(
        SplitReference,
        n_train_rows=counts.n_train_rows,
        n_eval_rows=counts.n_eval_rows,
        n_unused_rows=counts.n_unused_rows,
        is_pinned=split.pinned is not None,
        train_sha256=file_sha256(output.path / "train.jsonl"),
        eval_sha256=file_sha256(output.path / "eval.jsonl"),
    )
