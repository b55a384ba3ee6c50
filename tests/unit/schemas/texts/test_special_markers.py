from __future__ import annotations

import polars as pl
import pytest

from schemas.texts.special_markers import (
    CONTENT_TOKENS,
    SPECIAL_MARKERS,
    find_special_marker,
    special_marker_hint,
)

MARKERS = [marker for markers in SPECIAL_MARKERS.values() for marker in markers]


@pytest.mark.parametrize("marker", MARKERS)
def test_every_listed_marker_is_found(marker: str) -> None:
    text = f"Hello{marker} there"
    assert find_special_marker(text) == marker
    assert pl.Series([text]).str.contains(special_marker_hint()).item()


@pytest.mark.parametrize(
    "text",
    [
        "a <| b |> c",
        "print(x || y)",
        "<b>bold</b> <start> <end>",
        "Use [MASK] or [IMG] here, see [1].",
        "<think>Let me see.</think> Yes.",
        "<tool_call>{}</tool_call>",
        "24 = <<48/2=24>>24",
        "### Response:",
        "das ｜ Zeichen",
        "im_start",
        "",
    ],
)
def test_legal_neighbours_of_markers_are_left_alone(text: str) -> None:
    assert find_special_marker(text) is None


def test_markers_of_unknown_families_are_found_by_their_shape() -> None:
    assert find_special_marker("a<|new_token_7|>b") == "<|new_token_7|>"
    assert find_special_marker("a<｜new｜>b") == "<｜new｜>"


def test_struck_through_html_is_legal_and_sentence_marks_are_not() -> None:
    assert find_special_marker("It costs <s>12</s> 10 euros, <s>now</s> later.") is None
    assert find_special_marker("It costs 10 euros.</s>") == "</s>"
    assert find_special_marker("<s>It costs 10 euros.</s>") == "<s>"
    assert find_special_marker("</s>wrong way<s>") == "</s>"


def test_tokens_of_the_model_are_found_as_well() -> None:
    given = ("<s>", "</s>", "[MASK]", "<image>", "(#+.*)")
    assert find_special_marker("<s>12</s> 10 euros", given) == "<s>"
    assert find_special_marker("an [MASK]", given) == "[MASK]"
    assert find_special_marker("an (#+.*)", given) == "(#+.*)"
    assert pl.Series(["an (#+.*)"]).str.contains(special_marker_hint(given)).item()


def test_tokens_that_are_ordinary_content_never_count() -> None:
    given = (*CONTENT_TOKENS, "  ", "\n\n", "hello", "")
    assert find_special_marker("<think>  hello\n\n</think>", given) is None


def test_numbered_tokens_of_the_model_are_taken_together() -> None:
    given = tuple(f"<loc{number:04}>" for number in range(1024))
    assert find_special_marker("at <loc0007>", given) == "<loc0007>"
    assert find_special_marker("at <loc>", given) is None
    assert len(special_marker_hint(given)) < len(special_marker_hint()) + 20
    few = ("<2>", "<3>")
    assert find_special_marker("at <2>", few) == "<2>"
    assert find_special_marker("at <4>", few) is None
