"""Which pieces of a rendered conversation are trained: without turns of weight 0, without prompts."""

from __future__ import annotations

from tasks.tokens._marks import Message
from tasks.tokens._shapes import Shape


def weighted_spans(
    messages: list[Message], spans: list[tuple[int, int]], shape: Shape
) -> list[tuple[int, int]]:
    """Leave out the pieces of assistant turns that are shown only.

    Args:
        messages: A conversation with weights.
        spans: Pieces that the training template marked, in order.
        shape: Turns whose reasoning is left out, and turns that the template does not mark.

    Returns:
        The pieces to train.

    Raises:
        ValueError: A turn is not to be trained and the pieces cannot be matched to turns.
    """
    is_trained = [
        message.get("weight", 1) != 0 and number not in shape.shown_turns
        for number, message in enumerate(messages)
        if message.get("role") == "assistant" and number not in shape.skipped_turns
    ]
    if all(is_trained):
        return spans
    if len(spans) != len(is_trained):
        spans = _joined(spans)  # some templates mark what follows the last turn by itself
    if len(spans) != len(is_trained):
        raise ValueError(
            f"a turn is not to be trained, but the template marks {len(spans)} pieces for "
            f"{len(is_trained)} assistant turns, so it is not known which one to leave out"
        )
    return [span for span, is_kept in zip(spans, is_trained, strict=True) if is_kept]


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start == joined[-1][1]:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def without_prompts(spans: list[tuple[int, int]], text: str, prompt: str) -> list[tuple[int, int]]:
    """Begin each piece where the prompt of its turn ends: what inference supplies is not learned.

    Args:
        spans: Pieces to train, in order.
        text: The conversation.
        prompt: What the model is given at inference for one of the pieces, which shows how much
            of a prompt the template marks, e.g. a line break or an opened thought.

    Returns:
        The pieces without that.
    """
    if not text.startswith(prompt):
        return spans
    n_prompt = len(prompt)
    marked = next((text[start:n_prompt] for start, end in spans if start < n_prompt < end), "")
    if not marked:
        return spans
    return [
        (start + len(marked), end)
        if text.startswith(marked, start) and start + len(marked) < end
        else (start, end)
        for start, end in spans
    ]
