from __future__ import annotations

from collections.abc import Callable

import polars
import pytest

from schemas.texts import damage

Finder = Callable[[str], str]
NAN = damage.find_missing_value
PIECES = damage.find_token_pieces
BREAKS = damage.find_escaped_breaks
ENTITIES = damage.find_entities
HINTS: dict[Finder, str] = {
    NAN: damage.MISSING_VALUE_HINT,
    PIECES: damage.PIECE_HINT,
    BREAKS: damage.ESCAPED_BREAK_HINT,
    ENTITIES: damage.ENTITY_HINT,
}

FOUND: list[tuple[Finder, str, str]] = [
    (NAN, "nan", "nan"),
    (NAN, " None\n", "None"),
    (NAN, "NULL", "NULL"),
    (NAN, "#N/A", "#N/A"),
    (NAN, "Sort these words.\n\nnan", "nan"),
    (NAN, "Sort these words.\n\n### Input:\nnan\n", "nan"),
    (NAN, "Sort these words.\nContext: NaN", "NaN"),
    (PIECES, "The Ġcat Ġsat Ġon Ġthe Ġmat .", "Ġ"),
    (PIECES, "▁The▁cat▁sat on▁the▁mat", "▁"),
    (PIECES, "Dear all,<0x0A><0x0A>the meeting is at two.", "<0x0A>"),
    (PIECES, "un@@ believ@@ able trans@@ la@@ tion", "@@"),
    (PIECES, "un ##believ ##able trans ##la ##tion", "##"),
    (PIECES, "the</w> cat</w> sat</w>", "</w>"),
    (
        BREAKS,
        r"First we add.\n\nThen we carry.\nSo it is 5.",
        r"3 times \n instead of a line break",
    ),
    (BREAKS, r"Items:\n- one\n- two\n- three", r"3 times \n instead of a line break"),
    (
        BREAKS,
        r"all in small letters.\nand so on.\nto the end",
        r"2 times \n instead of a line break",
    ),
    (BREAKS, "Summarise.\n\n" + r"One.\nTwo.\nThree.\nFour.\nFive.\nSix.\n7", "6 times"),
    (ENTITIES, "It&#39;s Tom&#39;s &quot;idea&quot;", "&#39; and 3 more"),
    (ENTITIES, "Tom &amp; Jerry &amp; Spike", "&amp; and 1 more"),
]
LEGAL: list[tuple[Finder, str]] = [
    (NAN, "The nan bread is good."),
    (NAN, "My nan"),
    (NAN, "None of them."),
    (NAN, "It prints\n```\nnan\n```"),
    (NAN, "```python\nprint(x)\n# nan"),
    (NAN, "finance"),
    (NAN, ""),
    (PIECES, "GPT-2 writes a space as Ġ, so `Ġthe` is the word the with a space before it."),
    (
        PIECES,
        "Il-Belt Valletta hija l-kapitali ta' Malta. Ġanni u Ġorġ joqogħdu hemm, f'Ġunju wkoll sħun.",
    ),
    (PIECES, "▁▂▃▅▇ 12 %"),
    (PIECES, "The byte <0x0A> is a line feed."),
    (PIECES, "```\nthe</w> cat</w> sat</w> on</w>\n```"),
    (PIECES, "# Title\n## Part one\n## part two\n## part three"),
    (PIECES, "x@@y a@b.c"),
    (BREAKS, "One.\nTwo.\nThree."),
    (BREAKS, r"Write `\n` for a line break and `\n\n` for two."),
    (BREAKS, r'print("Hello\nWorld\nAgain\n- done")'),
    (BREAKS, r"The regex \d+\n[A-Z]\n matches"),
    (BREAKS, r"$a \neq b$, $\nabla f$, $\nu$ and C:\new\notes"),
    (BREAKS, r'{"text": "One.\nTwo.\nThree."}'),
    (BREAKS, "Use it:\n```c\n" + r'printf("a\n"); puts("B\nC\n");' + "\n```"),
    (BREAKS, r"A single \n- is no damage"),
    (ENTITIES, "Tom &amp; Jerry"),
    (ENTITIES, "<p>Tom &amp; Jerry &amp; Spike</p>"),
    (ENTITIES, "In HTML write &amp; for an ampersand and &lt; for less."),
    (ENTITIES, "```\na &amp;&amp; b\n```"),
    (ENTITIES, "a && b; c &d; &e;"),
]


@pytest.mark.parametrize(("find", "text", "seen"), FOUND)
def test_damage_is_found_and_hinted_at(find: Finder, text: str, seen: str) -> None:
    assert find(text).startswith(seen)
    assert polars.Series([text]).str.contains(HINTS[find]).item()


@pytest.mark.parametrize(("find", "text"), LEGAL)
def test_what_only_looks_like_damage_is_left_alone(find: Finder, text: str) -> None:
    assert find(text) == ""


@pytest.mark.parametrize("value", ["nan", " N/A ", "none", "<noinput>", "NULL"])
def test_names_of_an_empty_cell_are_an_empty_input(value: str) -> None:
    assert damage.is_empty_input(value)


@pytest.mark.parametrize("value", ["", None, 2, "none of these", "No", ["nan"]])
def test_other_values_are_no_empty_input(value: object) -> None:
    assert not damage.is_empty_input(value)
