"""Ways to write the same conversation for templates that do not know all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from tasks.tokens._marks import REASONING_FIELDS, Message

AS_IS = "as is"
EMPTY_CONTENTS = (AS_IS, "", None)


@dataclass(frozen=True, slots=True)
class Form:
    """One of several ways to write the same conversation; templates do not know all of them."""

    empty_content: str | None = AS_IS
    """Content of a message that has none: one that only calls tools, or a tool's empty result."""
    has_system_for_developer: bool = False
    has_text_arguments: bool = False
    """Arguments of calls as JSON text, as OpenAI's API has them."""
    reasoning_field: str = AS_IS
    """Name of the field with an answer's reasoning."""

    @property
    def n_changes(self) -> int:
        """Count what differs from the canonical form."""
        return sum(getattr(self, part.name) != part.default for part in fields(self))

    def apply(self, messages: list[Message]) -> list[Message]:
        """Write messages in this form; the same list if nothing changes."""
        return [self._message(message) for message in messages] if self.n_changes else messages

    def _message(self, message: Message) -> Message:
        changed = dict(message)
        if self.empty_content != AS_IS and _may_be_empty(message):
            changed["content"] = self.empty_content
        if self.has_system_for_developer and message["role"] == "developer":
            changed["role"] = "system"
        if self.has_text_arguments and message.get("tool_calls"):
            changed["tool_calls"] = [_with_text_arguments(call) for call in message["tool_calls"]]
        named = [name for name in REASONING_FIELDS if message.get(name)]
        if self.reasoning_field != AS_IS and len(named) == 1 and message["role"] == "assistant":
            changed[self.reasoning_field] = changed.pop(named[0])
        return changed


CANONICAL = Form()


def _may_be_empty(message: Message) -> bool:
    """Return whether a message has no content and needs none; an answer is no answer without one."""
    return not message.get("content") and bool(
        message.get("tool_calls") or message["role"] == "tool"
    )


def _with_text_arguments(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
        return call
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def forms_of(messages: list[Message]) -> list[Form]:
    """List the forms of a conversation that differ, the canonical one first."""
    is_empty = any(map(_may_be_empty, messages))
    has_developer = any(message["role"] == "developer" for message in messages)
    has_calls = any(message.get("tool_calls") for message in messages)
    has_reasoning = any(message.get(name) for message in messages for name in REASONING_FIELDS)
    choices = product(
        EMPTY_CONTENTS if is_empty else (AS_IS,),
        (False, True) if has_developer else (False,),
        (False, True) if has_calls else (False,),
        (AS_IS, *REASONING_FIELDS) if has_reasoning else (AS_IS,),
    )
    return sorted((Form(*choice) for choice in choices), key=lambda form: form.n_changes)
