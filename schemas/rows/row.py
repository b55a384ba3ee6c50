"""A row on its way through the data stages: as it was read, and as one conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ROLES = ("system", "user", "assistant", "tool", "developer")


class RowFormat(StrEnum):
    """Form a row was written in."""

    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt_completion"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"


FORMATS = frozenset(map(str, RowFormat))


class Conversion(StrEnum):
    """A loss-free rewriting of a row into the canonical form; each is counted."""

    SHAREGPT = "sharegpt_to_messages"
    ALPACA = "alpaca_to_messages"
    TEXT_PARTS = "text_parts_joined"
    TOOL_CALLS = "tool_calls_rewritten"
    JSON_TEXT = "json_text_parsed"


@dataclass(slots=True)
class SourceRow:
    """One row as the source has it, or the reason why it could not be read.

    Not frozen, as `Conversation` is not: making a frozen one takes three times as long, and
    there are millions.
    """

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


@dataclass(slots=True)
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
    conversions: tuple[Conversion, ...] = ()
    """What was rewritten to get here, without loss; not stored."""

    def to_json(self) -> dict[str, Any]:
        """Lay the conversation out as a line of `kept.jsonl`.

        Returns:
            Every field but `conversions`, by name.
        """
        return {
            "file": self.file,
            "line": self.line,
            "format": str(self.format),
            "messages": self.messages,
            "n_prompt_messages": self.n_prompt_messages,
            "tools": self.tools,
            "columns": self.columns,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Conversation:
        """Read a line of `kept.jsonl` back.

        Args:
            value: What `to_json` made.

        Returns:
            The conversation.
        """
        return cls(**{**value, "format": RowFormat(value["format"])})


def is_stored(value: dict[str, Any]) -> bool:
    """Tell whether the fields of a line hold what `Conversation.to_json` writes into them.

    Args:
        value: An object with all of these fields; anybody may have written it.

    Returns:
        True if `Conversation.from_json` can take it; what the messages hold is not looked at.
    """
    messages, tools, n_prompt = value["messages"], value["tools"], value["n_prompt_messages"]
    return (
        isinstance(value["file"], str)
        and type(value["line"]) is int
        and 0 < value["line"] < 2**32
        and isinstance(value["format"], str)
        and value["format"] in FORMATS
        and isinstance(messages, list)
        and len(messages) > 0
        and (tools is None or (isinstance(tools, list) and len(tools) > 0))
        and (n_prompt is None or (type(n_prompt) is int and 0 <= n_prompt <= len(messages)))
        and isinstance(value["columns"], dict)
        and all(isinstance(item, (str, int, float, bool)) for item in value["columns"].values())
    )
