"""Which training rows a batch holds: looked up only when a guard has something to say of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.tokens.token_file import read_token_rows

SHOWN_ROWS = 5


def name_rows(batches: Iterable[dict[str, Any]], train_tokens: Path | None) -> str:
    """Name the training rows in some batches.

    Args:
        batches: What the collator made.
        train_tokens: Parquet file of the training rows; None: they cannot be named.

    Returns:
        E.g. `training rows 3, 17`, as column `row` numbers them; empty when none is found.
    """
    if train_tokens is None:
        return ""
    wanted = {piece for batch in batches for piece in split_batch(batch)}
    rows = sorted(
        int(number)
        for part in read_token_rows(train_tokens)
        for index, number in enumerate(part.numbers)
        if part.row(index)[0].tobytes() in wanted
    )
    if not rows:
        return ""
    more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return f"training rows {', '.join(map(str, rows[:SHOWN_ROWS]))}{more}"


def split_batch(batch: dict[str, Any]) -> Iterator[bytes]:
    """Take a batch apart into rows.

    Args:
        batch: `input_ids`, with `attention_mask` where rows are padded and `position_ids` where
            they are packed, or `row_lengths` where they share a prefix.

    Yields:
        The token ids of each row, as the bytes of 32-bit numbers.

    Shape:
        Every entry: (batch, seq).
    """
    import numpy

    if "row_lengths" in batch:
        ids = batch["input_ids"][0].cpu().numpy().astype(numpy.int32)
        n_prefix, *lengths = batch["row_lengths"]
        ends = n_prefix + numpy.cumsum(lengths)
        for length, end in zip(lengths, ends.tolist(), strict=True):
            yield ids[:n_prefix].tobytes() + ids[end - length : end].tobytes()
        return
    all_ids = batch["input_ids"].cpu().numpy().astype(numpy.int32)
    for number, ids in enumerate(all_ids):
        starts = [0]
        if "position_ids" in batch:
            places = batch["position_ids"][number].cpu().numpy()
            starts = numpy.flatnonzero(places == 0).tolist() or [0]
        if "attention_mask" in batch:
            ids = ids[batch["attention_mask"][number].cpu().numpy() == 1]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            yield ids[start:end].tobytes()
