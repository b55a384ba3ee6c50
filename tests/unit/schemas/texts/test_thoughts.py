from __future__ import annotations

import polars
import pytest

from schemas.texts.thoughts import (
    THOUGHT_HINT,
    ends_in_open_thought,
    find_unbalanced_thoughts,
    find_unclosed_thought,
)

WHOLE = [
    "<think>\nWell.\n</think>\n\nTwo.",
    "<think>\n\n</think>\n\nTwo.",
    "<think>a</think> one <think>b</think> two",
    "<|begin_of_thought|>\nWell.\n<|end_of_thought|>\nTwo.",
    "[THINK]Well.[/THINK]Two.",
    "◁think▷Well.◁/think▷Two.",
    "<Thinking>Well.</Thinking>Two.",
    "The `<think>` tag begins a thought, and '</think>' ends it.",
    "Close it with the </think> tag.",
    "",
]


@pytest.mark.parametrize("text", WHOLE)
def test_whole_thoughts_and_tags_written_about_are_left_alone(text: str) -> None:
    assert find_unclosed_thought(text) == ""
    assert find_unbalanced_thoughts(text) == ""


@pytest.mark.parametrize(
    "tag", ["<think>", "<THINK>", "<reasoning>", "<|begin_of_thought|>", "[THINK]"]
)
def test_answer_that_ends_inside_its_thought_is_unclosed_and_nothing_else(tag: str) -> None:
    for text in (f"{tag}\nWell, let me see", f"\n {tag} a ```python\nx = 1"):
        assert find_unclosed_thought(text) == f"{tag} is never closed"
        assert find_unbalanced_thoughts(text) == ""
        assert polars.Series([text]).str.contains(THOUGHT_HINT).item()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Well.\n</think>\n\nTwo.", "</think> without its beginning"),
        ("Well.<|end_of_thought|>Two.", "<|end_of_thought|> without its beginning"),
        ("<think>Well.</thinking>Two.", "<think> is closed by </thinking>"),
        ("<thinking>Well.</think>Two.", "<thinking> is closed by </think>"),
        ("<think><think>Well.</think>Two.", "<think> within <think>"),
        ("<think>Well.</think></think>Two.", "</think> without its beginning"),
        ("<think>Well.</think>Two.<think>And", "<think> is never closed"),
        ("Two. <think>And", "<think> is never closed"),
    ],
)
def test_tags_that_do_not_match_are_described(text: str, seen: str) -> None:
    assert find_unbalanced_thoughts(text) == seen
    assert find_unclosed_thought(text) == ""
    assert polars.Series([text]).str.contains(THOUGHT_HINT).item()


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        ("How tall?<think>\n", True),
        ("How tall?\n<|begin_of_thought|>", True),
        ("How tall?</think>", False),
        ("How tall? <think> is a tag", False),
        ("How tall?", False),
        ("", False),
    ],
)
def test_prompt_may_open_the_thought(prompt: str, is_open: bool) -> None:
    assert ends_in_open_thought(prompt) is is_open
