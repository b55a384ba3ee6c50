"""A row on its way through the data stages: as it was read, and as one conversation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class RowFormat(StrEnum):
    """Form a row was written in."""

    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt_completion"


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as the source has it, or the reason why it could not be read."""

    file: str
    line: int
    """Counted from 1; the row number where the source has no lines."""
    row: Any = None
    unparseable: str = ""

    def to_json(self) -> dict[str, Any]:
        """Lay the row out as a line of `rows.jsonl`.

        Returns:
            `file`, `line` and either `row` or `unparseable`.
        """
        place = {"file": self.file, "line": self.line}
        if self.unparseable:
            return {**place, "unparseable": self.unparseable}
        return {**place, "row": self.row}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SourceRow:
        """Read a line of `rows.jsonl` back.

        Args:
            value: What `to_json` made.

        Returns:
            The row.
        """
        return cls(
            value["file"], int(value["line"]), value.get("row"), value.get("unparseable", "")
        )


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row in canonical form: a line of `kept.jsonl`, `train.jsonl` and `eval.jsonl`."""

    file: str
    line: int
    format: RowFormat
    messages: list[dict[str, Any]]
    n_prompt_messages: int | None = None
    """Only the messages from here on are trained; None trains every assistant turn."""
    tools: list[Any] | None = None
    columns: dict[str, str | int | float | bool] = field(default_factory=dict)
    """The row's other columns that hold a single value."""

    def to_json(self) -> dict[str, Any]:
        """Lay the conversation out as a line of `kept.jsonl`.

        Returns:
            Every field, by name.
        """
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Conversation:
        """Read a line of `kept.jsonl` back.

        Args:
            value: What `to_json` made.

        Returns:
            The conversation.
        """
        return cls(**{**value, "format": RowFormat(value["format"])})
