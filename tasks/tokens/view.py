"""Rows as the training sees them: text, and which tokens are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from schemas.rows.row import Conversation
from schemas.texts.secrets import secret_kinds
from tasks.tokens.rendering import RenderedRow, Renderer, render_rows
from tasks.tokens.token_file import NOT_TRAINED, read_token_rows

MAX_VIEW_TOKENS = 1500
"""Tokens of a row that a page shows."""

SHOWN_ROWS = 2
MOST_LOOKED_AT = 50
"""Rows looked at to find some without a secret, which the rules may only have warned of."""


def sample_rendered(
    renderer: Renderer, conversations: Iterable[Conversation]
) -> list[list[tuple[str, bool]]]:
    """View a few rows as `token_view` does; empty where the template refuses one."""
    return [token_view(renderer, row) for _, row in render_rows(renderer, conversations)]


def token_view(renderer: Renderer, row: RenderedRow) -> list[tuple[str, bool]]:
    """Show a row and what is trained of it, for a page that colours it.

    Args:
        renderer: The prepared model's tokenizer.
        row: The row.

    Returns:
        Texts in order, each with whether it is trained, neighbours never alike; a character whose
        tokens are in two of them is in the second. The text is cut after 1,500 tokens.
    """
    ids = row.input_ids[:MAX_VIEW_TOKENS]
    whole = _decode(renderer, ids)
    view: list[tuple[str, bool]] = []
    start = 0
    for n_tokens, is_trained in _states(row, len(ids)):
        # Decoded from the start: tokens in the middle of a character or a word read otherwise.
        read = _decode(renderer, ids[:n_tokens])
        end = len(whole) if n_tokens == len(ids) else _common_length(whole, read)
        if end > start:
            view.append((whole[start:end], is_trained))
            start = end
    if len(row.input_ids) > len(ids):
        view.append((" …", False))
    return view


def _states(row: RenderedRow, n_tokens: int) -> Iterator[tuple[int, bool]]:
    """Yield the end of each stretch of the first tokens that are all trained or all not."""
    done = 0
    for start, end in row.spans:
        if start >= n_tokens:
            break
        if start > done:
            yield start, False
        done = min(end, n_tokens)
        yield done, True
    if done < n_tokens:
        yield n_tokens, False


def _decode(renderer: Renderer, ids: list[int]) -> str:
    return str(
        renderer.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    )


def _common_length(first: str, second: str) -> int:
    for number, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return number
    return min(len(first), len(second))


def view_rows(renderer: Renderer, tokens: Path) -> list[list[tuple[str, bool]]]:
    """View the first two tokenised rows of a Parquet file that contain no secret."""
    found: list[list[tuple[str, bool]]] = []
    first = next(read_token_rows(tokens), None)
    for index in range(min(len(first.numbers), MOST_LOOKED_AT) if first else 0):
        if first is None or len(found) == SHOWN_ROWS:
            break
        ids, labels = first.row(index)
        view = token_view(renderer, _rendered(ids.tolist(), labels.tolist()))
        if not secret_kinds("".join(text for text, _ in view)):
            found.append(view)
    return found


def _rendered(ids: list[int], labels: list[int]) -> RenderedRow:
    """Find the trained stretches again."""
    spans: list[tuple[int, int]] = []
    place = 0
    for is_trained, stretch in groupby(label != NOT_TRAINED for label in labels):
        end = place + len(list(stretch))
        if is_trained:
            spans.append((place, end))
        place = end
    return RenderedRow(ids, tuple(spans), stop_is_supervised=True, prompt_is_prefix=True, n_bos=0)
