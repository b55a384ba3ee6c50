"""What two conversations have in common: normalised texts, their hashes, and the last answer."""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]


def last_answer_index(messages: list[Message]) -> int:
    """Find the last assistant turn.

    Args:
        messages: A conversation.

    Returns:
        Its index; the number of messages when there is none.
    """
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "assistant":
            return index
    return len(messages)


def answer_text(messages: list[Message]) -> str:
    """Take the text of the last assistant turn, tool calls included.

    Args:
        messages: A conversation.

    Returns:
        The text; empty when there is no such turn.
    """
    index = last_answer_index(messages)
    if index == len(messages):
        return ""
    content = messages[index].get("content")
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    calls = messages[index].get("tool_calls")
    return text + json.dumps(calls, sort_keys=True) if calls else text
