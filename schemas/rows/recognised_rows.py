"""What the rows of a block are; of plain rows it is known without a look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.rows.plain_rows import PlainRow, Rows
from schemas.rows.recognition import NOTHING, Recognised, recognise


@dataclass(frozen=True, slots=True)
class RecognisedRows:
    """What `recognise` finds in each row of a block; of plain rows it is made when asked for."""

    rows: Rows
    others: dict[int, Recognised]
    """Number of each row that is not plain, to what was found."""

    def __getitem__(self, number: int) -> Recognised:
        """Return what one row is, counted from 0."""
        return self.others.get(number) or (self.rows.conversation(number), NOTHING, [])

    def __iter__(self) -> Iterator[Recognised]:
        """Yield what each row is."""
        return map(self.__getitem__, range(len(self.rows)))


def recognise_rows(rows: Rows) -> RecognisedRows:
    """Recognise each row of a block that is not plain."""
    items = enumerate(rows.items)
    others = {place: recognise(row) for place, row in items if not isinstance(row, PlainRow)}
    return RecognisedRows(rows, others)
