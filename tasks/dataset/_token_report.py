"""Rows as tokens: lengths, how much is trained, the cost of padding and packing, and time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schemas.base import Record
from schemas.config.run import RunConfig, seed_of
from schemas.config.training import TrainingConfig
from tasks.training.plan.batching import effective_batch, wished_batching

if TYPE_CHECKING:
    from tasks.engine.arrays import Array

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999, "max": 1.0}

PACKED_ROWS = 1000
"""Rows that TRL packs together: the default batch of `datasets.map`."""
GROUP_BATCHES = 50
"""Batches that transformers shuffles together and sorts by length (group_by_length)."""


class TokenReport(Record):
    """Rows as tokens; values on training are of the rows that are kept."""

    n_rows: int
    """Rows tokenised."""
    n_kept_rows: int
    """Rows that would be trained."""
    n_tokens: int
    """Of the rows kept."""
    n_supervised_tokens: int
    """Of the rows kept."""
    supervised_fraction: float
    """n_supervised_tokens / n_tokens; 0 without rows."""
    length_tokens: dict[str, int]
    """Quantiles of the length of all rows that could be tokenised, by name."""
    supervised_length_tokens: dict[str, int]
    """Quantiles of the number of trained tokens of those rows."""
    max_length_tokens: int
    """As configured."""
    max_length_for_99_percent: int
    """Smallest max_length_tokens that truncates at most 1 % of the rows."""
    max_length_for_99_9_percent: int
    """Smallest max_length_tokens that truncates at most 0.1 % of the rows."""
    padding_fraction: float
    """Share of padding in batches of the configured size, in shuffled order, without packing."""
    grouped_padding_fraction: float
    """The same with rows of like length in a batch."""
    packing_unfilled_fraction: float
    """Share of each packed sequence that stays empty (best fit decreasing, as TRL packs)."""
    has_packing: bool
    n_sequences: int
    """Sequences per epoch, packed if configured."""
    n_steps_per_epoch: int
    n_steps: int
    """Optimiser steps of the whole training."""
    seconds: float
    """Rough time of the training: tokens seen / tokens_per_second."""
    tokens_per_second: float
    """Speed that the time is computed with."""


def make_token_report(
    columns: Mapping[str, Array], config: RunConfig, tokens_per_second: float
) -> TokenReport:
    """Summarise the rows that would be trained, from `SplitTokens.columns`."""
    n_tokens, n_supervised = columns["n_tokens"], columns["n_supervised_tokens"]
    is_kept = columns["is_written"]
    is_rendered = n_tokens > 0
    kept = n_tokens[is_kept]
    n_kept_tokens, n_kept_supervised = int(kept.sum()), int(n_supervised[is_kept].sum())
    quantiles = length_quantiles(n_tokens[is_rendered])
    return TokenReport(
        n_rows=len(n_tokens),
        n_kept_rows=len(kept),
        n_tokens=n_kept_tokens,
        n_supervised_tokens=n_kept_supervised,
        supervised_fraction=n_kept_supervised / n_kept_tokens if n_kept_tokens else 0.0,
        length_tokens=quantiles,
        supervised_length_tokens=length_quantiles(n_supervised[is_rendered]),
        max_length_tokens=config.quality.max_length_tokens,
        max_length_for_99_percent=quantiles["p99"],
        max_length_for_99_9_percent=quantiles["p99_9"],
        tokens_per_second=tokens_per_second,
        **_training_costs(kept, config, n_kept_tokens / tokens_per_second),
    )


def _training_costs(kept: Array, config: RunConfig, epoch_seconds: float) -> dict[str, Any]:
    """Compute padding, packing, steps and time."""
    training = config.training
    n_tokens = int(kept.sum())
    limit = max(training.packing_length_tokens, int(kept.max(initial=0)))
    n_packed = count_packed(kept, limit)
    n_sequences = n_packed if training.packing else len(kept)
    n_steps_per_epoch, n_steps = count_steps(n_sequences, training)
    n_epochs = n_steps / n_steps_per_epoch if n_steps_per_epoch else 0.0
    shuffled, grouped = padding_fractions(
        kept, wished_batching(training).per_device, seed_of(config, config.training)
    )
    return {
        "padding_fraction": shuffled,
        "grouped_padding_fraction": grouped,
        "packing_unfilled_fraction": unused_fraction(n_tokens, n_packed * limit),
        "has_packing": training.packing,
        "n_sequences": n_sequences,
        "n_steps_per_epoch": n_steps_per_epoch,
        "n_steps": n_steps,
        "seconds": round(epoch_seconds * n_epochs, 1),
    }


def length_quantiles(lengths: Array) -> dict[str, int]:
    """Take quantiles that are lengths of rows: the smallest that so large a share does not exceed.

    Args:
        lengths: Array of rows in tokens.

    Returns:
        Name to length, 0 without rows.

    Shape:
        lengths: (rows,).
    """
    import numpy

    ordered = numpy.sort(lengths)
    # Rounded, since 0.99 x 100 is a little more than 99 in floating point.
    ranks = {name: math.ceil(round(q * len(ordered), 6)) for name, q in QUANTILES.items()}
    return {name: int(ordered[rank - 1]) if rank else 0 for name, rank in ranks.items()}


def count_steps(n_sequences: int, training: TrainingConfig) -> tuple[int, int]:
    """Count optimiser steps.

    Args:
        n_sequences: Sequences per epoch.
        training: Batch size, accumulation and epochs count.

    Returns:
        Steps per epoch = ceil(sequences / effective batch), and of the whole training.
    """
    n_steps_per_epoch = math.ceil(n_sequences / effective_batch(training))
    if not n_steps_per_epoch:
        return 0, 0
    return n_steps_per_epoch, training.max_steps or math.ceil(
        n_steps_per_epoch * training.num_train_epochs
    )


def unused_fraction(used: int, space: int) -> float:
    """Compute 1 - used / space; 0 where there is no space."""
    return 1 - used / space if space else 0.0


def padding_fractions(lengths: Array, batch_size: int, seed: int) -> tuple[float, float]:
    """Compute the share of padding in batches without packing.

    Args:
        lengths: Array of rows in tokens.
        batch_size: Rows per batch.
        seed: For the order of rows.

    Returns:
        1 - tokens / (rows x longest row, summed over batches): for shuffled rows, and for rows
        grouped by length.

    Shape:
        lengths: (rows,).

    Source: transformers 5.17, trainer_pt_utils.get_length_grouped_indices.
    """
    import numpy

    order = numpy.random.default_rng(seed).permutation(len(lengths))
    shuffled = lengths[order].astype(numpy.int64)
    n_batches = min(len(lengths) // (batch_size * 4), GROUP_BATCHES) or 1
    group = numpy.arange(len(lengths)) // (n_batches * batch_size)
    grouped = shuffled[numpy.lexsort((-shuffled, group))]
    n_tokens = int(shuffled.sum())
    return (
        unused_fraction(n_tokens, _padded_tokens(shuffled, batch_size)),
        unused_fraction(n_tokens, _padded_tokens(grouped, batch_size)),
    )


def _padded_tokens(lengths: Array, batch_size: int) -> int:
    import numpy

    if not len(lengths):
        return 0
    starts = numpy.arange(0, len(lengths), batch_size)
    sizes = numpy.diff([*starts, len(lengths)])
    return int((numpy.maximum.reduceat(lengths, starts) * sizes).sum())


def count_packed(lengths: Array, limit: int) -> int:
    """Count the sequences that packing makes of the rows.

    Args:
        lengths: Array of rows in tokens, none above the limit.
        limit: Length of a packed sequence.

    Returns:
        Sequences, by best fit decreasing over each thousand rows.

    Shape:
        lengths: (rows,).

    Source: TRL 1.16, data_utils.pack_dataset(strategy="bfd").
    """
    return sum(
        _count_bins(lengths[start : start + PACKED_ROWS], limit)
        for start in range(0, len(lengths), PACKED_ROWS)
    )


def _count_bins(lengths: Array, limit: int) -> int:
    """Pack rows of one length at a time, into the bins with the least space that is enough."""
    import numpy

    values, counts = numpy.unique(lengths[lengths > 0], return_counts=True)
    bins: dict[int, int] = {}  # space left to number of bins
    n_bins = 0
    for length, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        for space in sorted(space for space in bins if space >= length):
            if count:
                count -= _fill(bins, space, length, count)
        if count:
            # What is left needs new bins, each filled with as many rows as go in.
            n_new = math.ceil(count / (limit // length))
            bins[limit] = bins.get(limit, 0) + n_new
            n_bins += n_new
            _fill(bins, limit, length, count)
    return n_bins


def _fill(bins: dict[int, int], space: int, length: int, count: int) -> int:
    """Pack up to so many rows of one length into the bins with this space left; return how many."""
    n_each = space // length
    n_full = min(bins[space], count // n_each)
    n_rest = 0 if n_full == bins[space] else count - n_full * n_each
    for n_used, n_rows in ((n_full, n_each), (int(n_rest > 0), n_rest)):
        if n_used:
            bins[space] -= n_used
            left = space - n_rows * length
            bins[left] = bins.get(left, 0) + n_used
    if not bins[space]:
        del bins[space]
    return n_full * n_each + n_rest
