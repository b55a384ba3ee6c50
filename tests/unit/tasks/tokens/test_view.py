from __future__ import annotations

from typing import Any

import pytest

from schemas.rows.row import Conversation, RowFormat
from tasks.tokens.rendering import RenderedRow, Renderer, load_renderer, render_row
from tasks.tokens.view import MAX_VIEW_TOKENS, sample_rendered, token_view
from tests.support.toy import TOY_TRAINING_TEMPLATE, make_toy_model


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("model")
    make_toy_model(folder / "model")
    (folder / "training_template.jinja").write_text(TOY_TRAINING_TEMPLATE, encoding="utf-8")
    return load_renderer(folder / "model", folder / "training_template.jinja")


def chat(prompt: Any, answer: str) -> Conversation:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Conversation("a.jsonl", 1, RowFormat.MESSAGES, turns)


def test_view_shows_what_is_trained(renderer: Renderer) -> None:
    [view, refused] = sample_rendered(renderer, [chat("Wie hoch?", "Zwölf 😀"), chat(7, "a")])
    assert view == [
        ("<|im_start|>user\nWie hoch?<|im_end|>\n<|im_start|>assistant\n", False),
        ("Zwölf 😀<|im_end|>", True),
        ("\n", False),
    ]
    assert refused == []


def test_view_keeps_characters_whole_whose_tokens_are_parted(renderer: Renderer) -> None:
    ids = renderer.tokenizer("aöb")["input_ids"]
    assert len(ids) == 4
    assert token_view(renderer, RenderedRow(ids, ((2, 3),), True, True, 0)) == [
        ("a", False),
        ("ö", True),
        ("b", False),
    ]


def test_view_of_a_long_row_is_cut(renderer: Renderer) -> None:
    row = render_row(renderer, chat("x" * MAX_VIEW_TOKENS, "never shown"))
    view = token_view(renderer, row)
    assert [is_trained for _, is_trained in view] == [False, False]
    assert view[-1][0] == " …"
