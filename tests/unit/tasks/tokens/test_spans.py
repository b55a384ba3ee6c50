"""The pieces to train: turns of weight 0 and what inference supplies are left out."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.tokens._shapes import Shape
from tasks.tokens._spans import weighted_spans, without_prompts

TWO_TURNS = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
]


def test_weight_0_leaves_the_piece_of_its_turn_out() -> None:
    weighted: list[dict[str, Any]] = [dict(message) for message in TWO_TURNS]
    spans = [(1, 2), (4, 5)]
    assert weighted_spans(weighted, spans, Shape()) == spans
    assert weighted_spans(weighted, spans, Shape(shown_turns=frozenset([3]))) == [(1, 2)]
    weighted[1]["weight"] = 0
    assert weighted_spans(weighted, spans, Shape()) == [(4, 5)]
    assert weighted_spans(weighted, [(4, 5)], Shape(skipped_turns=frozenset([1]))) == [(4, 5)]
    weighted[3]["weight"] = 0
    assert weighted_spans(weighted, spans, Shape()) == []


def test_weight_0_is_refused_where_pieces_cannot_be_told_apart() -> None:
    weighted: list[dict[str, Any]] = [dict(message) for message in TWO_TURNS]
    weighted[1]["weight"] = 0
    with pytest.raises(ValueError, match="marks 3 pieces for 2 assistant turns"):
        weighted_spans(weighted, [(1, 2), (3, 4), (5, 6)], Shape())
    # Phi-3's training template marks what it writes after the last turn by itself.
    assert weighted_spans(weighted, [(1, 2), (4, 5), (5, 6)], Shape()) == [(4, 6)]


def test_what_the_prompt_ends_with_is_not_trained() -> None:
    text, prompt = "u1A\nb.u2A\nd.", "u1A\nb.u2A\n"
    spans = [(3, 6), (9, 12)]  # from behind each A, with the line break that the prompt has too
    assert [text[start:end] for start, end in spans] == ["\nb.", "\nd."]
    found = without_prompts(spans, text, prompt)
    assert [text[start:end] for start, end in found] == ["b.", "d."]
    assert without_prompts(found, text, prompt) == found
    assert without_prompts(spans, text, "another") == spans
    # A piece that does not begin like that, or has nothing else, stays as it is.
    assert without_prompts([(2, 6), (9, 12)], text, prompt) == [(2, 6), (10, 12)]
    assert without_prompts([(3, 4), (9, 12)], text, prompt) == [(3, 4), (10, 12)]
