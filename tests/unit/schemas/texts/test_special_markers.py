from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from schemas.texts.special_markers import SPECIAL_MARKERS, find_special_marker, special_marker_hint

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
        "<|begin_of_thought|>Well.<|end_of_thought|> <|begin_of_solution|>2<|end_of_solution|>",
        "<reasoning>Well.</reasoning> <answer>2</answer> [THINK]Well.[/THINK] ◁think▷",
        '<|tool_call_start|>[find(word="wall")]<|tool_call_end|> <|tool_call|>[]',
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.find:0",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
        "|x| + |y| <|a|b|> <|x|> <|psi|> <|0|1|>",
        "<|user_profile|> <|plan|> <|step_1|>",
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
    for name in ("turn_start", "end_of_turn", "User", "begin_of_message", "eos", "bot_end"):
        assert find_special_marker(f"a<|{name}|>b") == f"<|{name}|>"
    assert find_special_marker("a<｜new｜>b") == "<｜new｜>"
    assert find_special_marker("<|begin_of_thought|> a <|end_of_turn|>") == "<|end_of_turn|>"


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
    given = ("<think>", "</think>", "<tool_call>", "<|think|>", "  ", "\n\n", "hello", "")
    assert find_special_marker("<think>  hello\n\n</think><|think|><tool_call>", given) is None


def test_any_other_name_in_bars_counts_if_the_tokenizer_lists_it() -> None:
    assert find_special_marker("a <|plan|> b") is None
    assert find_special_marker("a <|plan|> b", ("<|plan|>",)) == "<|plan|>"


PLAIN_TAGS = re.compile(r"</?(?!s>|bos|eos|sop|start_of|end_of)[A-Za-z][\w:-]*>")
"""Tags such as <parameters>: they are text, and no tokenizer lists them."""
CONTENT_TAGS = re.compile(r"<[|｜]?/?[\w▁]*(?:think|tool[_▁](?:call|list|response|output|sep))\w*")


@pytest.mark.skipif(find_spec("trl") is None, reason="needs trl, which the data gate does not")
def test_every_marker_of_the_templates_that_trl_ships_is_known() -> None:
    spec = find_spec("trl")
    assert spec is not None
    assert spec.origin
    seen: set[str] = set()
    for path in (Path(spec.origin).parent / "chat_templates").glob("*.jinja"):
        text = path.read_text(encoding="utf-8")
        seen.update(re.findall(r"<[|｜]?/?\w[\w▁:-]{0,40}[|｜]?>|\[/?[A-Z_]{3,}\]|<</?SYS>>", text))
    markers = {each for each in seen if not PLAIN_TAGS.fullmatch(each)}
    assert {"<|turn>", "<turn|>", "<|im_end|>", "[INST]", "<end_of_utterance>"} <= markers
    unknown = {each for each in markers if find_special_marker(f"{each} a") is None}
    assert {each for each in unknown if not CONTENT_TAGS.match(each)} == set()


def test_numbered_tokens_of_the_model_are_taken_together() -> None:
    given = tuple(f"<loc{number:04}>" for number in range(1024))
    assert find_special_marker("at <loc0007>", given) == "<loc0007>"
    assert find_special_marker("at <loc>", given) is None
    assert len(special_marker_hint(given)) < len(special_marker_hint()) + 20
    few = ("<2>", "<3>")
    assert find_special_marker("at <2>", few) == "<2>"
    assert find_special_marker("at <4>", few) is None
