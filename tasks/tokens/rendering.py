"""Render conversations with a prepared model's templates: token ids, labels and what they show."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.rows.row import Conversation
from schemas.rule_ids import SetRule
from tasks.engine.process_limits import count_processors
from tasks.models.prepared import load_prepared_tokenizer, read_facts
from tasks.models.shape import read_position_limit
from tasks.tokens._encoding import EncodedRow, Encoder
from tasks.tokens._texts import RowText, TextRenderer, answer_text
from tasks.tokens.token_file import NOT_TRAINED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_LIMIT_TOKENS = 10**30
CHUNK_ROWS = 200
"""Rows encoded in one call: fewer cost calls, more do not fit into the processor's cache."""
MAX_THREADS = 8
"""More would wait for the templates, which Python renders one at a time."""


@dataclass(frozen=True)
class Renderer:
    """Tokenizer with its inference template, the training template, and the tokens that stop."""

    tokenizer: PreTrainedTokenizerBase
    training_template: str
    stop_ids: frozenset[int]
    n_positions: int | None = None
    """Tokens that the model has positions for; None for any number."""
    clock: str = ""
    """Date that templates read as today's, `YYYY-MM-DD`; empty for the real one."""

    def longest_row(self, max_length_tokens: int) -> int:
        """Return how many tokens a row may have: as configured, and as the model has positions."""
        return min(max_length_tokens, self.n_positions or max_length_tokens)

    @cached_property
    def _blanks(self) -> dict[int, bool]:
        return {}

    def is_blank(self, token: int) -> bool:
        """Return whether a token is white space only."""
        if token not in self._blanks:
            self._blanks[token] = not str(self.tokenizer.decode([token])).strip()
        return self._blanks[token]

    @cached_property
    def encoder(self) -> Encoder:
        """Set the tokenizer up for many rows, once."""
        return Encoder(self.tokenizer)

    @cached_property
    def texts(self) -> TextRenderer:
        """Set the templates up for many rows, once."""
        return TextRenderer(self.tokenizer, self.training_template, self.clock)


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """One conversation as tokens.

    Shape:
        input_ids: (seq).
    """

    input_ids: list[int]
    spans: tuple[tuple[int, int], ...]
    """Start and end of each trained piece, in tokens."""
    stop_is_supervised: bool
    """Every trained piece ends with a stop token."""
    prompt_is_prefix: bool
    """The tokens of the prompt, as the model will be asked, begin the row."""
    n_bos: int
    """Beginning-of-sequence tokens at the start of the row."""
    problem: str = ""
    """Why the template refused the row; it then has no tokens."""
    findings: Mapping[SetRule, str] = field(default_factory=dict)
    """What the template left out of the row or of its training, by rule."""

    @property
    def n_supervised_tokens(self) -> int:
        """Count the trained tokens."""
        return sum(end - start for start, end in self.spans)

    @property
    def supervised_end(self) -> int:
        """Count the tokens up to the last trained one."""
        return self.spans[-1][1] if self.spans else 0

    @property
    def labels(self) -> list[int]:
        """Label every token: its id where it is trained, else -100.

        Shape:
            (seq).
        """
        labels = [NOT_TRAINED] * len(self.input_ids)
        for start, end in self.spans:
            labels[start:end] = self.input_ids[start:end]
        return labels


def load_renderer(model: Path, training_template: Path) -> Renderer:
    """Load the tokenizer and templates of a prepared model folder; no weights are read."""
    tokenizer = load_prepared_tokenizer(model)
    # Rows over the limit are counted by rule too_long; the library would only print a warning.
    tokenizer.model_max_length = NO_LIMIT_TOKENS
    return Renderer(
        tokenizer,
        training_template.read_text(encoding="utf-8"),
        stop_ids(model, tokenizer),
        read_position_limit(model),
        read_facts(model).clock,
    )


def stop_ids(model: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
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
    """Turn one conversation into token ids and labels, see `render_rows`.

    Args:
        renderer: What `load_renderer` made.
        conversation: The conversation.

    Returns:
        Ids, labels and what the rules look at.
    """
    [(_, row)] = render_rows(renderer, [conversation])
    return row


def render_rows(
    renderer: Renderer, conversations: Iterable[Conversation]
) -> Iterator[tuple[Conversation, RenderedRow]]:
    """Turn conversations into token ids and labels, encoding on every core.

    Labels are the ids of what the training template marks; of a prompt/completion row only
    those behind the prompt, and none of an assistant turn with weight 0. White space after the
    stop token is not trained.

    Args:
        renderer: What `load_renderer` made.
        conversations: The conversations.

    Yields:
        Each conversation, in order, with its ids, labels and what the rules look at; without
        tokens where the template refuses it.
    """
    for chunk, texts, encoded in _encode_ahead(renderer, conversations):
        for conversation, text, row in zip(chunk, texts, encoded, strict=True):
            yield conversation, _finish(renderer, text, row)


def _encode_ahead(
    renderer: Renderer, conversations: Iterable[Conversation]
) -> Iterator[tuple[list[Conversation], list[RowText], list[EncodedRow]]]:
    """Render chunks here while earlier ones are encoded, which leaves Python free."""
    encoder = renderer.encoder
    templates = renderer.texts
    remaining = iter(conversations)
    n_threads = min(count_processors(), MAX_THREADS)
    waiting: deque[tuple[list[Conversation], list[RowText], Future[list[EncodedRow]]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        while chunk := list(islice(remaining, CHUNK_ROWS)):
            texts = templates.render(chunk)
            waiting.append((chunk, texts, pool.submit(encoder.encode, texts)))
            if len(waiting) > n_threads:
                chunk, texts, future = waiting.popleft()
                yield chunk, texts, future.result()
        for chunk, texts, future in waiting:
            yield chunk, texts, future.result()


def _finish(renderer: Renderer, text: RowText, encoded: EncodedRow) -> RenderedRow:
    """Find what is trained of an encoded row."""
    if text.problem:
        return RenderedRow([], (), False, False, 0, problem=text.problem)
    placed = renderer.encoder.place(encoded, text)
    ids = encoded.ids
    n_untrained = placed.n_common_tokens if text.is_completion_only else 0
    spans, stop_is_supervised = trim_spans(renderer, ids, join_spans(placed.spans, n_untrained))
    n_bos = _leading_bos(ids, renderer.tokenizer.bos_token_id)
    return RenderedRow(
        ids,
        spans,
        stop_is_supervised,
        placed.prompt_is_prefix,
        n_bos,
        findings=text.findings,
    )


def join_spans(spans: list[tuple[int, int]], n_untrained: int) -> list[tuple[int, int]]:
    """Join pieces that touch, in order, and leave out the first `n_untrained` tokens."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        start = max(start, n_untrained)
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif start < end:
            joined.append((start, end))
    return joined


def trim_spans(
    renderer: Renderer, ids: list[int], spans: list[tuple[int, int]]
) -> tuple[tuple[tuple[int, int], ...], bool]:
    """End each piece at its stop token, if only white space and other stop tokens follow.

    Args:
        renderer: For the stop tokens.
        ids: Token ids of the row.
        spans: Pieces that are marked, as start and end.

    Returns:
        Pieces to train, and whether there are some and all of them end with a stop token.
    """
    trimmed, has_stops = [], bool(spans)
    for start, end in spans:
        stop = None
        for place in range(end - 1, start - 1, -1):
            if ids[place] in renderer.stop_ids:
                stop = place
            elif not renderer.is_blank(ids[place]):
                break
        has_stops = has_stops and stop is not None
        trimmed.append((start, end if stop is None else stop + 1))
    return tuple(trimmed), has_stops


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
        last assistant turn), `n_turns` (user turns asked) and `columns`.
    """
    asked, tools = renderer.texts.asked(conversation)
    prompt = renderer.texts.prompt(asked, tools)
    return {
        "prompt": prompt,
        "question": str(asked[-1].get("content") or "") if asked else "",
        "reference": answer_text(conversation.messages),
        "n_turns": sum(message["role"] == "user" for message in asked),
        "columns": conversation.columns,
    }


def asked_messages(renderer: Renderer, conversation: Conversation) -> dict[str, Any]:
    """Return what the model is asked in evaluation: `messages` before the last answer, `tools`."""
    messages, tools = renderer.texts.asked(conversation)
    return {"messages": messages, "tools": tools}
