"""Conversations to text: what the training template writes, which of it is trained, the prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.rows.row import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]


@dataclass(slots=True)
class RowText:
    """One conversation as text; without any when the template refused it."""

    text: str = ""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Start and end, in characters, of each piece that is trained."""
    prompt: str = ""
    """What the model is given at inference."""
    is_completion_only: bool = False
    """Nothing of the prompt is trained, whatever the template marks."""
    problem: str = ""
    """Why the template refused the row."""


class TextRenderer:
    """Both templates of a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, training_template: str) -> None:
        """Keep the tokenizer, which has the inference template, and the training template."""
        self.tokenizer = tokenizer
        self.training_template = training_template
        self.special_tokens = tokenizer.special_tokens_map

    def render(self, conversations: Sequence[Conversation]) -> list[RowText]:
        """Render conversations, all in one call unless one of them needs a call of its own."""
        from jinja2 import TemplateError

        refusals = (TemplateError, TypeError, ValueError, LookupError, RecursionError)
        if all(found.tools is None for found in conversations):
            try:
                return self._render(conversations, None)
            except refusals:
                pass  # row by row, to learn which ones the template refuses
        rows = []
        for conversation in conversations:
            try:
                rows += self._render([conversation], conversation.tools)
            except refusals as error:
                rows.append(RowText(problem=str(error) or type(error).__name__))
        return rows

    def _render(
        self, conversations: Sequence[Conversation], tools: list[Any] | None
    ) -> list[RowText]:
        from transformers.utils.chat_template_utils import render_jinja_template

        chats = [without_weights(found.messages) for found in conversations]
        texts, spans = render_jinja_template(
            chats,
            tools=tools,
            chat_template=self.training_template,
            return_assistant_tokens_mask=True,
            **self.special_tokens,
        )
        prompts, _ = render_jinja_template(
            [_prompt(found, chat) for found, chat in zip(conversations, chats, strict=True)],
            tools=tools,
            chat_template=self.tokenizer.get_chat_template(tools=tools),
            add_generation_prompt=True,
            **self.special_tokens,
        )
        rows = []
        for number, found in enumerate(conversations):
            if not texts[number].isascii():
                texts[
                    number
                ].encode()  # half of a surrogate pair is no text; no tokenizer accepts it
            marked = spans[number]
            if chats[number] is not found.messages:
                marked = weighted_spans(found.messages, marked)
            is_completion_only = found.n_prompt_messages is not None
            rows.append(RowText(texts[number], marked, prompts[number], is_completion_only))
        return rows


def _prompt(conversation: Conversation, messages: list[Message]) -> list[Message]:
    """Cut off what the model is to answer: the completion, or the last answer."""
    n_messages = conversation.n_prompt_messages
    if n_messages is None:
        n_messages = last_answer_index(messages)
    if n_messages == 0:
        raise ValueError("the conversation begins with its answer, there is no prompt to give")
    return messages[:n_messages]


def without_weights(messages: list[Message]) -> list[Message]:
    """Remove the field `weight`, so that it cannot shape the text."""
    if not any("weight" in message for message in messages):
        return messages
    return [
        {name: value for name, value in message.items() if name != "weight"} for message in messages
    ]


def weighted_spans(messages: list[Message], spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Leave out the pieces of assistant turns whose weight is 0.

    Args:
        messages: A conversation with weights.
        spans: Pieces that the training template marked, in order.

    Returns:
        The pieces to train.

    Raises:
        ValueError: A turn has weight 0 and the pieces cannot be matched to turns.
    """
    is_trained = [
        message.get("weight", 1) != 0 for message in messages if message.get("role") == "assistant"
    ]
    if all(is_trained):
        return spans
    if len(spans) != len(is_trained):
        raise ValueError(
            f"a turn has weight 0, but the template marks {len(spans)} pieces for "
            f"{len(is_trained)} assistant turns, so it is not known which one to leave out"
        )
    return [span for span, is_kept in zip(spans, is_trained, strict=True) if is_kept]


def last_answer_index(messages: list[Message]) -> int:
    """Find the last assistant turn; the number of messages when there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "assistant":
            return index
    return len(messages)


def answer_text(messages: list[Message]) -> str:
    """Return the text of the last assistant turn, tool calls included; empty without one."""
    index = last_answer_index(messages)
    if index == len(messages):
        return ""
    content = messages[index].get("content")
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    calls = messages[index].get("tool_calls")
    return text + json.dumps(calls, sort_keys=True) if calls else text
