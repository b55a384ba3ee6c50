from __future__ import annotations

from tasks.tokens.rendering import RenderedRow, Renderer, render_row
from tasks.tokens.view import MAX_VIEW_TOKENS, sample_rendered, token_view
from tests.support.messages import chat


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
