"""Rows of nothing but messages with a role and a text, as most are: typed values instead of objects.

`Rows` keeps them as they were decoded and makes a `SourceRow` of one only when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, json

from schemas.rows.row import ROLES, Conversation, RowFormat, SourceRow

NOT_PLAIN = (DecodeError, UnicodeDecodeError)
"""What `decode_plain` raises on any other line."""


class PlainMessage(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """A message of two fields."""

    role: Literal[ROLES]  # type: ignore[valid-type]
    content: str


class PlainRow(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """A row of one field."""

    messages: Annotated[list[PlainMessage], Meta(min_length=1)]


decode_plain: Callable[[bytes], PlainRow] = json.Decoder(PlainRow).decode
"""Read a line as `PlainRow`; any other line raises an error of `NOT_PLAIN`."""


def as_messages(row: PlainRow) -> list[dict[str, Any]]:
    """Return the messages in canonical form."""
    return [{"role": message.role, "content": message.content} for message in row.messages]


@dataclass(slots=True)
class Rows:
    """Rows of a block, in order."""

    file: str = ""
    """File of the plain rows."""
    items: list[SourceRow | PlainRow] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Line of each row, counted from 1."""

    @classmethod
    def of(cls, rows: Iterable[SourceRow]) -> Rows:
        """Take rows that were read one by one."""
        found = list(rows)
        return cls("", [*found], [row.line for row in found])

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.items)

    def __getitem__(self, number: int) -> SourceRow:
        """Return one row, counted from 0."""
        row = self.items[number]
        if isinstance(row, PlainRow):
            return SourceRow(self.file, self.lines[number], {"messages": as_messages(row)})
        return row

    def __iter__(self) -> Iterator[SourceRow]:
        """Yield the rows."""
        return map(self.__getitem__, range(len(self.items)))

    def conversation(self, number: int) -> Conversation | None:
        """Return the conversation of a plain row; None: the row has to be recognised."""
        row = self.items[number]
        if not isinstance(row, PlainRow):
            return None
        line = self.lines[number]
        return Conversation(self.file, line, RowFormat.MESSAGES, as_messages(row))
