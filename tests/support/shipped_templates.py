"""The chat templates that TRL ships, and rows of every kind whose texts are all different words."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.rows.row import Conversation, RowFormat
from tasks.chat_template.variants import derive_variant
from tasks.tokens._texts import RowText, TextRenderer

TOOL = {
    "type": "function",
    "function": {
        "name": "find_page",
        "description": "Looks up Drumlin.",
        "parameters": {
            "type": "object",
            "properties": {"heading": {"type": "string", "description": "What Esker says."}},
            "required": ["heading"],
        },
    },
}
SYSTEM = {"role": "system", "content": "Obey Quokka."}
USER = {"role": "user", "content": "Ask Wombat."}
ANSWER = {"role": "assistant", "content": "Say Numbat."}
AGAIN = [{"role": "user", "content": "Ask Bilby."}, {"role": "assistant", "content": "Say Dingo."}]
RESULT = {"role": "tool", "tool_call_id": "abcdefgh1", "content": "Got Potoroo."}
REASONED = {**ANSWER, "reasoning_content": "Think Bandicoot."}


def call(**message: Any) -> dict[str, Any]:
    """Make a message that only calls the tool."""
    function = {"name": "find_page", "arguments": {"heading": "Moraine"}}
    calls = [{"id": "abcdefgh1", "type": "function", "function": function}]
    return {"role": "assistant", **message, "tool_calls": calls}


ROWS: dict[str, tuple[list[dict[str, Any]], list[Any] | None]] = {
    "plain": ([USER, ANSWER], None),
    "system": ([SYSTEM, USER, ANSWER], None),
    "developer": ([{**SYSTEM, "role": "developer"}, USER, ANSWER], None),
    "turns": ([SYSTEM, USER, ANSWER, *AGAIN], None),
    "tools": ([USER, ANSWER], [TOOL]),
    "call, content empty": ([USER, call(content="")], [TOOL]),
    "call, content null": ([USER, call(content=None), RESULT, ANSWER], [TOOL]),
    "call, no content": ([USER, call(), RESULT, ANSWER], [TOOL]),
    "call and text": ([SYSTEM, USER, call(content="See Kowari."), RESULT, ANSWER], [TOOL]),
    "tool answers": ([USER, call(content=""), RESULT, ANSWER, *AGAIN], [TOOL]),
    "reasoning": ([USER, REASONED], None),
    "think tags": ([USER, {**ANSWER, "content": "<think>\nThink Bandicoot.\n</think>\n\nSay Numbat."}], None),
    "earlier reasoning": ([USER, REASONED, *AGAIN], None),
    "reasoned call": ([USER, call(content="", reasoning_content="Think Thylacine."), RESULT, REASONED], [TOOL]),
    "name": ([{**USER, "name": "Cassowary"}, ANSWER], None),
}  # fmt: skip
WORDS = {
    "Quokka": "content", "Wombat": "content", "Numbat": "content", "Bilby": "content",
    "Dingo": "content", "Potoroo": "content", "Kowari": "content", "Bandicoot": "reasoning",
    "Thylacine": "reasoning", "Moraine": "tool_calls", "Cassowary": "name", "Drumlin": "description",
    "Esker": "description",
}  # fmt: skip
"""Each word of the rows that has to be somewhere in a rendered row, and what names its absence."""


def shipped_templates() -> dict[str, str]:
    """Read the templates of TRL that are not training variants, by name."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    return {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("*.jinja"))
        if not path.stem.endswith("_training")
    }


def conversation(name: str) -> Conversation:
    """Make one of the rows."""
    messages, tools = copy.deepcopy(ROWS[name])
    return Conversation("a.jsonl", 1, RowFormat.MESSAGES, messages, tools=tools)


def render_shipped(
    tokenizer: Any, template: str, names: Iterator[str] | list[str]
) -> list[RowText]:
    """Render rows as a model with this template would be trained on them."""
    tokenizer.chat_template = template
    renderer = TextRenderer(tokenizer, derive_variant(template, "<|im_end|>"))
    return [renderer.render([conversation(name)])[0] for name in names]
