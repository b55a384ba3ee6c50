from __future__ import annotations

import polars
import pytest

from schemas.texts.residue import RESIDUE_HINT, find_residue

FOUND = [
    ("Two.<|im_end", "<|im_end"),
    ("Two. im_end|>", "im_end|>"),
    ("It is two【4†source】.", "【4†source】"),
    ("It is two \ue200cite\ue202turn0search1\ue201.", "turn0search1"),
    ("a \uf0b7 b", "U+F0B7"),
    ("\ufffc A picture", "U+FFFC"),
    ("It\u200b\u200c\u200dis", "U+200B"),
    ("It\u200b is\u200b two\u200b metres", "U+200B and 2 more"),
    ("It \u200eis \u200etwo \u200emetres", "U+200E and 2 more"),
    ("Wa\u00adll me\u00adtre brid\u00adge win\u00addow gar\u00adden", "U+00AD in 5 words"),
]
LEGAL = [
    "",
    "می\u200cخواهم",
    "ภาษา\u200bไทย\u200bไม่\u200bเว้น\u200bวรรค",
    "👩\u200d👩\u200d👧 क्\u200dष",
    "המחיר הוא \u200e$10\u200e בלבד, abc\u200f. def\u200f, ghi\u200f!",
    "10\u00a0km",
    "Donau\u00addampf\u00adschiff\u00adfahrt",
    "one zero\u200bwidth",
    "Chapter 【1】 and 【注】",
    "list |> Enum.map(f) |> end_of_x|>",
    "Write `<|im_end` or\n```\nim_end|>\n```",
]


@pytest.mark.parametrize(("text", "seen"), FOUND)
def test_residue_is_found_and_hinted_at(text: str, seen: str) -> None:
    assert find_residue(text) == seen
    assert polars.Series([text]).str.contains(RESIDUE_HINT).item()


@pytest.mark.parametrize("text", LEGAL)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert find_residue(text) == ""
