"""Conversations to text: what the training template writes, which of it is trained, the prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.rows.row import Conversation
from schemas.rule_ids import SetRule
from tasks.chat_template.variants import freeze_clock, render_faults
from tasks.tokens._marks import MarkedRow, Message
from tasks.tokens._shapes import Shape, Shapes, findings
from tasks.tokens._spans import weighted_spans, without_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CLOSED_THOUGHT = (
    "the prompt at inference ends with a closed, empty thought, but the answer has reasoning: set "
    "template.kwargs={enable_thinking: true}, or remove the reasoning"
)
OPEN_THOUGHT = (
    "the prompt at inference ends with an opened thought, but the answer has no reasoning: set "
    "template.kwargs={enable_thinking: false} where the template reads it, or give reasoning"
)


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
    findings: dict[SetRule, str] = field(default_factory=dict)
    """What the template left out, by rule."""


@dataclass(frozen=True, slots=True)
class _Chat:
    """A conversation as the template is given it."""

    row: Conversation
    messages: list[Message]
    tools: list[Any] | None
    shape: Shape
    marked: MarkedRow | None

    @property
    def prompt(self) -> list[Message]:
        """Cut off what the model is to answer: the completion, or the last answer.

        Raises:
            ValueError: Nothing is left.
        """
        n_messages = self.row.n_prompt_messages
        if n_messages is None:
            n_messages = last_answer_index(self.messages)
        if n_messages == 0:
            raise ValueError("the conversation begins with its answer, there is no prompt to give")
        return self.messages[:n_messages]


class TextRenderer:
    """Both templates of a tokenizer."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, training_template: str, clock: str = ""
    ) -> None:
        """Keep the tokenizer, which has the inference template, and the training template.

        Both read `clock` as today's date.
        """
        self.tokenizer = tokenizer
        self.clock = clock
        self.training_template, self.today = freeze_clock(training_template, clock)
        self.special_tokens = tokenizer.special_tokens_map
        self.refusals = render_faults()
        self.shapes = Shapes(self._render_training, self.refusals)

    def render(self, conversations: Sequence[Conversation]) -> list[RowText]:
        """Render conversations, all in one call unless one of them needs a call of its own."""
        chats: list[_Chat | RowText] = []
        for conversation in conversations:
            try:
                chats.append(self._chat(conversation))
            except self.refusals as error:
                chats.append(_refused(error))
        ready = [chat for chat in chats if isinstance(chat, _Chat) and chat.tools is None]
        if len(ready) == len(chats):
            try:
                return self._render(ready)
            except self.refusals:
                pass  # row by row, to learn which ones the template refuses
        rows = []
        for chat in chats:
            try:
                rows += self._render([chat]) if isinstance(chat, _Chat) else [chat]
            except self.refusals as error:
                rows.append(_refused(error))
        return rows

    def asked(self, conversation: Conversation) -> tuple[list[Message], list[Any] | None]:
        """Return what the model is asked in evaluation, as the template is given it.

        The messages before the last assistant turn, and the tools.
        """
        chat = self._chat(conversation)
        return chat.messages[: last_answer_index(chat.messages)], chat.tools

    def prompt(self, messages: list[Message], tools: list[Any] | None) -> str:
        """Render what the model is given at inference."""
        return self._render_prompts([messages], tools)[0]

    def _chat(self, conversation: Conversation) -> _Chat:
        """Write a conversation in the form that the template knows."""
        tools = wrapped_tools(conversation.tools)
        shape, marked = self.shapes.find(conversation.messages, tools)
        messages = shape.form.apply(without_weights(conversation.messages))
        return _Chat(conversation, messages, tools, shape, marked)

    def _render(self, chats: Sequence[_Chat]) -> list[RowText]:
        """Render conversations without tools, or a single one."""
        tools = chats[0].tools if chats else None
        texts, spans = self._render_all([chat.messages for chat in chats], tools)
        prompts = self._render_prompts([chat.prompt for chat in chats], tools)
        rows = []
        for chat, text, marked, prompt in zip(chats, texts, spans, prompts, strict=True):
            if not text.isascii():
                text.encode()  # half of a surrogate pair is no text; no tokenizer accepts it
            pieces = weighted_spans(chat.row.messages, marked, chat.shape)
            pieces = without_prompts(pieces, text, prompt)
            is_completion_only = chat.row.n_prompt_messages is not None
            found = findings(chat.row, text, chat.shape, chat.marked)
            if not pieces or SetRule.TURN_NOT_TRAINED in found:
                _explain(found, chat.row, is_nothing=not pieces, thought=_thought(prompt, text))
            rows.append(RowText(text, pieces, prompt, is_completion_only, findings=found))
        return rows

    def _render_training(
        self, messages: list[Message], tools: list[Any] | None
    ) -> tuple[str, list[tuple[int, int]]]:
        texts, spans = self._render_all([messages], tools)
        return texts[0], spans[0]

    def _render_all(
        self, chats: list[list[Message]], tools: list[Any] | None
    ) -> tuple[list[str], list[list[tuple[int, int]]]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, spans = render_jinja_template(
            chats,
            tools=tools,
            chat_template=self.training_template,
            return_assistant_tokens_mask=True,
            **self.today,
            **self.special_tokens,
        )
        return list(texts), spans

    def _render_prompts(self, chats: list[list[Message]], tools: list[Any] | None) -> list[str]:
        from transformers.utils.chat_template_utils import render_jinja_template

        template = self.tokenizer.get_chat_template(tools=tools)
        template, today = freeze_clock(template, self.clock)
        prompts, _ = render_jinja_template(
            chats,
            tools=tools,
            chat_template=template,
            add_generation_prompt=True,
            **today,
            **self.special_tokens,
        )
        return list(prompts)


def _thought(prompt: str, text: str) -> str:
    """Describe how the thought at the end of the prompt differs from the row's; empty if not."""
    if text.startswith(prompt):
        return ""
    endings = {"</think>": CLOSED_THOUGHT, "<think>": OPEN_THOUGHT}
    return next((each for end, each in endings.items() if prompt.rstrip().endswith(end)), "")


def _explain(
    found: dict[SetRule, str], row: Conversation, *, is_nothing: bool, thought: str
) -> None:
    """Describe why an answer is not trained, where the row or the settings are the reason."""
    answers = [message for message in row.messages if message["role"] == "assistant"]
    reason = ""
    if answers and all(message.get("weight", 1) == 0 for message in answers):
        reason = "every answer has weight 0, or a loss flag that says the same; drop the row"
    elif thought:
        reason = thought
        if SetRule.TURN_NOT_TRAINED in found:
            found[SetRule.TURN_NOT_TRAINED] += f"; {reason}"
    if is_nothing and reason:
        found[SetRule.NO_SUPERVISED_TOKENS] = reason


def _refused(error: Exception) -> RowText:
    return RowText(problem=str(error) or type(error).__name__)


def wrapped_tools(tools: list[Any] | None) -> list[Any] | None:
    """Write tools as a server gives them to a template: as OpenAI's API has them."""
    if tools is None:
        return None
    return [
        {"type": "function", "function": tool}
        if isinstance(tool, dict) and isinstance(tool.get("name"), str) and "function" not in tool
        else tool
        for tool in tools
    ]


def without_weights(messages: list[Message]) -> list[Message]:
    """Remove the field `weight`, so that it cannot shape the text."""
    if not any("weight" in message for message in messages):
        return messages
    return [
        {name: value for name, value in message.items() if name != "weight"} for message in messages
    ]


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
