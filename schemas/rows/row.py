"""A row in the data stages: as it was read, and as one conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ROLES = ("system", "user", "assistant", "tool", "developer")


class RowFormat(StrEnum):
    """Format a row was written in."""

    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt_completion"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"


FORMATS = frozenset(map(str, RowFormat))


class Conversion(StrEnum):
    """A loss-free conversion of a row into the canonical form; each is counted."""

    SHAREGPT = "sharegpt_to_messages"
    ALPACA = "alpaca_to_messages"
    TEXT_PARTS = "text_parts_joined"
    TOOL_CALLS = "tool_calls_rewritten"
    JSON_TEXT = "json_text_parsed"
    SYSTEM = "system_column_to_message"
    HISTORY = "history_to_messages"
    TOOLS = "functions_to_tools"
    RESULT_ROLE = "function_role_to_tool"
    LOSS_FLAGS = "loss_flags_to_weight"
    REASONING = "reasoning_to_reasoning_content"
    REPEATED_REASONING = "repeated_reasoning_dropped"
    TOOL_SCHEMAS = "tool_schemas_to_parameters"
    PADDING = "null_padding_dropped"


@dataclass(slots=True)
class SourceRow:
    """One row as the source has it, or the reason why it cannot be read.

    Not frozen, as `Conversation` is not: creating a frozen one takes three times as long, and
    there are millions.
    """

    file: str
    line: int
    """Counted from 1; the row number where the source has no lines."""
    row: Any = None
    unparseable: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a line of `rows.jsonl`: `file`, `line` and either `row` or `unparseable`."""
        place = {"file": self.file, "line": self.line}
        if self.unparseable:
            return {**place, "unparseable": self.unparseable}
        return {**place, "row": self.row}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SourceRow:
        """Read what `to_json` wrote."""
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
    """Other columns of the row that contain a single value."""
    conversions: tuple[Conversion, ...] = ()
    """Conversions that were made; not stored."""
    unused_fields: tuple[str, ...] = ()
    """Columns and fields of messages (`messages[].name`) that nothing reads; not stored."""

    def to_json(self) -> dict[str, Any]:
        """Return a line of `kept.jsonl`: what is stored of the fields, by name."""
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
        """Read what `to_json` wrote."""
        return cls(**{**value, "format": RowFormat(value["format"])})


def is_stored(value: dict[str, Any]) -> bool:
    """Check the types of a line, so that `Conversation.from_json` can read it; messages are not checked."""
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
