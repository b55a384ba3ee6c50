"""What a row shows the model besides its turns: the system message and the tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import orjson

from schemas.rules.check_rows import CheckedBlock

if TYPE_CHECKING:
    import numpy
    from polars import DataFrame, Series

    from tasks.engine.arrays import Flags, Hashes, Numbers

OPENING_ROLES = ("system", "developer")


def is_opening(frame: DataFrame) -> Flags:
    """Mark the system and developer messages."""
    return frame["role"].is_in(OPENING_ROLES).fill_null(value=False).to_numpy()


def context_hashes(frame: DataFrame, said: Series, starts: Numbers) -> Hashes:
    """Hash the system message of each row without its digits, so that a date makes no other context.

    Args:
        frame: One message a line, with its role.
        said: The texts of the messages, normalised.
        starts: Of each row, its first message.

    Returns:
        The hashes, 0 for a row without a system message.

    Shape:
        starts and the result: (rows).
    """
    import numpy

    hashes = numpy.zeros(len(frame), dtype=numpy.uint64)
    places = numpy.flatnonzero(is_opening(frame))
    if not len(places):
        return numpy.zeros(len(starts), dtype=numpy.uint64)
    texts = said.gather(places)
    _, first, kind = numpy.unique(texts.hash().to_numpy(), return_index=True, return_inverse=True)
    distinct = texts.gather(first).str.replace_all("[0-9]+", "").hash().to_numpy()
    hashes[places] = distinct[kind]
    return numpy.add.reduceat(hashes, starts)


def tool_hashes(block: CheckedBlock, kept: Sequence[int]) -> Iterator[tuple[int, numpy.uint64]]:
    """Hash the tools of the kept rows that list some.

    Args:
        block: The rows.
        kept: Numbers of those that break no blocking rule.

    Yields:
        Place in `kept` and hash.
    """
    import numpy
    import xxhash

    calling = block.layout.calling_rows
    if not calling:
        return
    for place, number in enumerate(kept):
        found = block.recognised[number][0] if number in calling else None
        if found is not None and found.tools:
            tools = orjson.dumps(found.tools, option=orjson.OPT_SORT_KEYS)
            yield place, numpy.uint64(xxhash.xxh3_64_intdigest(tools))
