"""Render conversations with a prepared model's templates: token ids, labels and what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.rows import Conversation
from tasks._prepared import load_prepared_tokenizer
from tasks._prompts import answer_text, last_answer_index

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOT_TRAINED = -100
"""Label of a token that the loss leaves out."""
NO_LIMIT_TOKENS = 10**30


@dataclass(frozen=True)
class Renderer:
    """Tokenizer with its inference template, the training template, and the tokens that stop."""

    tokenizer: PreTrainedTokenizerBase
    training_template: str
    stop_ids: frozenset[int]


@dataclass(frozen=True)
class RenderedRow:
    """One conversation as tokens.

    Shape:
        input_ids: (seq).
        labels: (seq), -100 = not trained.
    """

    input_ids: list[int]
    labels: list[int]
    n_supervised_tokens: int
    stop_is_supervised: bool
    """Every trained piece ends with a stop token."""
    prompt_is_prefix: bool
    """The tokens of the prompt, as the model will be asked, begin the row."""
    n_bos: int
    """Beginning-of-sequence tokens at the start of the row."""
    problem: str = ""
    """Why the template refused the row; it then has no tokens."""


def load_renderer(model: Path, training_template: Path) -> Renderer:
    """Load what renders rows; no weights are read.

    Args:
        model: Prepared model folder.
        training_template: Its template with generation markers.

    Returns:
        The renderer.
    """
    tokenizer = load_prepared_tokenizer(model)
    # Rows over the limit are counted by rule too_long; the library would only print a warning.
    tokenizer.model_max_length = NO_LIMIT_TOKENS
    return Renderer(
        tokenizer,
        training_template.read_text(encoding="utf-8"),
        _stop_ids(model, tokenizer),
    )


def _stop_ids(model: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Collect the tokens at which generation stops."""
    found: set[int] = set()
    path = model / "generation_config.json"
    if path.is_file():
        named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        found.update(named if isinstance(named, list) else [] if named is None else [named])
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    return frozenset(found)


def render_row(renderer: Renderer, conversation: Conversation) -> RenderedRow:
    """Turn one conversation into token ids and labels.

    Labels are the ids of what the training template marks; of a prompt/completion row only
    those behind the prompt. White space after the stop token is not trained.

    Args:
        renderer: What `load_renderer` made.
        conversation: The conversation.

    Returns:
        Ids, labels and what the rules look at; without tokens when the template refuses the row.
    """
    from jinja2 import TemplateError

    try:
        ids, mask, prompt_ids = _tokenise(renderer, conversation)
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        return RenderedRow([], [], 0, False, False, 0, problem=str(error) or type(error).__name__)
    n_common = _common_prefix(ids, prompt_ids)
    if conversation.n_prompt_messages is not None:
        mask = [0] * n_common + mask[n_common:]
    labels, stop_is_supervised = make_labels(renderer, ids, mask)
    return RenderedRow(
        input_ids=ids,
        labels=labels,
        n_supervised_tokens=sum(label != NOT_TRAINED for label in labels),
        stop_is_supervised=stop_is_supervised,
        prompt_is_prefix=n_common == len(prompt_ids),
        n_bos=_leading_bos(ids, renderer.tokenizer.bos_token_id),
    )


def _tokenise(
    renderer: Renderer, conversation: Conversation
) -> tuple[list[int], list[int], list[int]]:
    """Tokenise the whole row with its marks, and its prompt as the model will be asked."""
    messages, tools = conversation.messages, conversation.tools
    n_prompt_messages = conversation.n_prompt_messages
    if n_prompt_messages is None:
        n_prompt_messages = last_answer_index(messages)
    whole = renderer.tokenizer.apply_chat_template(
        messages,
        tools=tools,
        chat_template=renderer.training_template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    prompt = renderer.tokenizer.apply_chat_template(
        messages[:n_prompt_messages],
        tools=tools,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )
    return list(whole["input_ids"]), list(whole["assistant_masks"]), list(prompt["input_ids"])


def make_labels(renderer: Renderer, ids: list[int], mask: list[int]) -> tuple[list[int], bool]:
    """Label the marked tokens, each piece up to its stop token.

    Args:
        renderer: For the stop tokens.
        ids: Token ids of the row.
        mask: 1 where the training template marks the token.

    Returns:
        Labels, and whether there are trained pieces and all of them end with a stop token.

    Shape:
        ids, mask, labels: (seq).
    """
    labels = [NOT_TRAINED] * len(ids)
    ends = []
    for start, end in _pieces(mask):
        stops = [n for n in range(start, end) if ids[n] in renderer.stop_ids]
        if stops and not str(renderer.tokenizer.decode(ids[stops[-1] + 1 : end])).strip():
            end = stops[-1] + 1
        labels[start:end] = ids[start:end]
        ends.append(ids[end - 1] in renderer.stop_ids)
    return labels, bool(ends) and all(ends)


def _pieces(mask: list[int]) -> Iterator[tuple[int, int]]:
    """Find the runs of ones, as start and end."""
    start = None
    for number, value in enumerate([*mask, 0]):
        if value and start is None:
            start = number
        elif not value and start is not None:
            yield start, number
            start = None


def _common_prefix(first: list[int], second: list[int]) -> int:
    for number, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return number
    return min(len(first), len(second))


def _leading_bos(ids: list[int], bos: Any) -> int:
    """Count at the start only: some models use the same token for every turn."""
    count = 0
    while count < len(ids) and ids[count] == bos:
        count += 1
    return count


def render_prompt(renderer: Renderer, conversation: Conversation) -> dict[str, Any]:
    """Render what the model is asked in evaluation: everything before the last assistant turn.

    Args:
        renderer: What `load_renderer` made.
        conversation: The conversation.

    Returns:
        `prompt`, `question` (text of the last turn before the answer), `reference` (text of the
        last assistant turn) and `columns`.
    """
    asked = conversation.messages[: last_answer_index(conversation.messages)]
    prompt = renderer.tokenizer.apply_chat_template(
        asked,
        tools=conversation.tools,
        add_generation_prompt=True,
        tokenize=False,
    )
    return {
        "prompt": prompt,
        "question": str(asked[-1].get("content") or "") if asked else "",
        "reference": answer_text(conversation.messages),
        "columns": conversation.columns,
    }
