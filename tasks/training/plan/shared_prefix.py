"""Find the prefix that rows have in common, so that it is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.tokens.token_file import NOT_TRAINED

if TYPE_CHECKING:
    import numpy
    from datasets import Dataset
    from numpy.typing import NDArray

N_PROBE_ROWS = 3
PROBE_TOKENS = 32
"""Rows, and tokens of each after the prefix, that test whether a model keeps rows apart."""
SHARED_SHARE = 8
"""At most an eighth of a sequence is shared: attention keeps a copy of the prefix for every row, so
many short rows behind a long prompt would take several times the memory that was planned."""


def shared_prefix(*sets: Dataset) -> tuple[int, ...]:
    """Find the tokens that every row begins with and no row is trained on.

    Args:
        *sets: Datasets with `input_ids` and `labels` that will be packed with this prefix.

    Returns:
        The longest common prefix after which every row still has an unlabelled token, so that the
        first label of each row keeps the token before it; empty when there is none.
    """
    columns = [_flat_columns(rows) for rows in sets if len(rows)]
    prefix: list[int] = []
    while columns:
        token = int(columns[0][1][columns[0][0][0] + len(prefix)])
        for starts, ids, labels, shortest in columns:
            here = starts + len(prefix)
            if (
                len(prefix) + 1 >= shortest
                or (ids[here] != token).any()
                or (labels[here + 1] != NOT_TRAINED).any()
                or (labels[here] != NOT_TRAINED).any()
            ):
                return tuple(prefix)
        prefix.append(token)
    return tuple(prefix)


def _flat_columns(
    rows: Dataset,
) -> tuple[NDArray[numpy.int64], NDArray[numpy.int32], NDArray[numpy.int32], int]:
    """Concatenate the tokens of all rows: starts, ids, labels, length of the shortest row.

    Shape:
        starts (rows,), ids and labels (tokens of all rows,); -100 = not trained.
    """
    import numpy

    table = rows.with_format("arrow")[:]
    ids, labels = (table[name].combine_chunks() for name in ("input_ids", "labels"))
    lengths = ids.value_lengths().to_numpy()
    starts = numpy.concatenate(([0], numpy.cumsum(lengths)[:-1]))
    return starts, ids.flatten().to_numpy(), labels.flatten().to_numpy(), int(lengths.min())
