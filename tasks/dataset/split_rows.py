"""Which split each row belongs to."""

from __future__ import annotations

import hashlib
import math
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

from schemas.config.run import SplitConfig
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from tasks.engine.arrays import Hashes, Numbers

    Parts: TypeAlias = NDArray[numpy.uint8]
    """The `Split` of each row."""
    Positions: TypeAlias = NDArray[numpy.float64]


class Split(IntEnum):
    """Where a row goes; also the name of its file."""

    TRAIN = 0
    EVAL = 1
    UNUSED = 2
    VALIDATION = 3

    @property
    def file(self) -> str:
        """File name of the split."""
        return f"{self.name.lower()}.jsonl"


def prompt_position(prompt: int, seed: int) -> float:
    """Compute a prompt's position between 0 and 1 from its hash, so that no other row changes it.

    Args:
        prompt: 64-bit hash of the normalised prompt.
        seed: Of the run.

    Returns:
        sha256(seed, prompt) over 2^256. Groups below the evaluation fraction are held out, those
        from there on, over the length of the validation fraction, are kept for validation.
    """
    digest = hashlib.sha256(f"{seed}\n{prompt:016x}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def continued_rows(whole: Hashes, continued: Hashes) -> Numbers:
    """Find the row whose conversation each row continues, as where there is one row for each answer.

    Args:
        whole: Hash of each row.
        continued: Hash of its messages up to the answer before the last, 0 where there is none.

    Returns:
        Number of the row that consists of these messages, -1 where there is none.

    Shape:
        whole, continued and the result: (rows).
    """
    import numpy

    found = numpy.full(len(whole), -1, dtype=numpy.int64)
    rows = numpy.flatnonzero(continued)
    if len(rows):
        order = numpy.argsort(whole, kind="stable")
        places = numpy.searchsorted(whole, continued[rows], sorter=order)
        earlier = order.take(places, mode="clip")
        is_found = whole[earlier] == continued[rows]
        found[rows[is_found]] = earlier[is_found]
    return found


def group_rows(*links: Numbers) -> Numbers:
    """Find the groups of rows that must stay in one split.

    Args:
        *links: For each row another one of its group, or itself or -1; each of shape (rows).

    Returns:
        For each row the first row of its group.

    Shape:
        (rows,).
    """
    import numpy
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_rows = len(links[0])
    ends = numpy.concatenate([link.astype(numpy.int64) for link in links])
    begins = numpy.tile(numpy.arange(n_rows), len(links))
    begins, ends = begins[ends >= 0], ends[ends >= 0]
    graph = coo_array((numpy.ones(len(ends), dtype=bool), (begins, ends)), shape=(n_rows, n_rows))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = numpy.unique(labels, return_index=True, return_inverse=True)
    return first[inverse]


def choose_splits(groups: Numbers, prompt: Hashes, split: SplitConfig, seed: int) -> Parts:
    """Decide for every row where it goes.

    Args:
        groups: For each row the first of its group.
        prompt: Hash of each row's prompt.
        split: Fractions, and upper limit of the evaluation rows.
        seed: Of the run.

    Returns:
        The `Split` of each row.

    Raises:
        ConfigError: A split would be empty.
    """
    import numpy

    positions = group_positions(groups, prompt, seed)
    parts = numpy.full(len(groups), int(Split.TRAIN), dtype=numpy.uint8)
    held_out = numpy.flatnonzero(positions < split.eval_fraction)
    if not len(held_out) or len(held_out) == len(groups):
        raise _empty_split(positions, split, "training" if len(held_out) else "evaluation")
    ranked = held_out[numpy.lexsort((held_out, positions[held_out]))]
    parts[ranked[: split.max_eval_rows]] = Split.EVAL
    parts[ranked[split.max_eval_rows :]] = Split.UNUSED
    keep_for_validation(parts, positions, split)
    return parts


def group_positions(groups: Numbers, prompt: Hashes, seed: int) -> Positions:
    """Compute each row's position: that of the first row of its group, between 0 and 1."""
    import numpy

    positions = numpy.zeros(len(groups))
    for first in numpy.unique(groups).tolist():
        positions[first] = prompt_position(int(prompt[first]), seed)
    return positions[groups]


def keep_for_validation(parts: Parts, positions: Positions, split: SplitConfig) -> None:
    """Move training rows to validation, where they measure the loss while training.

    Args:
        parts: The `Split` of each row; changed here.
        positions: What `group_positions` gave.
        split: Fractions; validation begins at the first and has the length of the second.

    Raises:
        ConfigError: There would be no validation row, or nothing left to train.
    """
    if not split.validation_fraction:
        return
    end = split.eval_fraction + split.validation_fraction
    is_free = parts == Split.TRAIN
    is_kept = is_free & (positions >= split.eval_fraction) & (positions < end)
    if not is_kept.any() or is_kept.sum() == is_free.sum():
        name = "training" if is_kept.any() else "validation"
        raise _empty_split(positions[is_free], split, name, is_validation=True)
    parts[is_kept] = Split.VALIDATION


def _empty_split(
    positions: Positions, split: SplitConfig, name: str, *, is_validation: bool = False
) -> ConfigError:
    """Report which fraction would leave rows in both splits."""
    key, start = ("validation", split.eval_fraction) if is_validation else ("eval", 0.0)
    reachable = [float(position) - start for position in positions if position >= start]
    lowest = math.floor(min(reachable, default=1.0) * 1000 + 1) / 1000
    highest = math.floor(max(reachable, default=0.0) * 1000) / 1000
    n_groups = len(set(positions.tolist()))
    would_do = f"set split.{key}_fraction to a value from {lowest:.3f} to {highest:.3f}"
    fraction = split.validation_fraction if is_validation else split.eval_fraction
    return ConfigError(
        f"the split would leave no {name} row",
        where=f"split.{key}_fraction",
        expected="at least one group of rows with the same or nearly the same text in each split",
        got=f"{fraction:g} of {n_groups:,} groups in {len(positions):,} rows",
        fix=would_do if lowest <= highest else "add rows with other prompts",
    )


def splits_besides_pinned(groups: Numbers, n_pinned: int) -> Parts:
    """Train every row but those in a group with a pinned evaluation row.

    Args:
        groups: For each row, pinned ones first, the first of its group.
        n_pinned: Pinned rows.

    Returns:
        The `Split` of each row.

    Raises:
        ConfigError: No row is left to train.
    """
    import numpy

    parts = numpy.where(groups < n_pinned, int(Split.UNUSED), int(Split.TRAIN)).astype(numpy.uint8)
    parts[:n_pinned] = Split.EVAL
    if not (parts == Split.TRAIN).any():
        raise ConfigError(
            "every row is like a pinned evaluation row, so none is left to train",
            where="split.pinned",
            got=f"{n_pinned:,} pinned rows and {len(groups) - n_pinned:,} others",
            fix="pin rows that are not part of the training data",
        )
    return parts
