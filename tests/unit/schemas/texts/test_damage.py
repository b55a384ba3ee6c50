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
    (NAN, "[object Object]", "[object Object]"),
    (NAN, "#DIV/0!", "#DIV/0!"),
    (NAN, "### Instruction:\nSort.\n\n### Input:\nnan\n\n### Response:\n", "nan"),
    (NAN, "Context: None\nQuestion: How tall is it?", "None"),
    (NAN, "How tall is the wall?\nNone", "None"),
    (NAN, "Name three trees. null", "null"),
    (NAN, "Hello undefined, your parcel is here.", "undefined"),
    (NAN, "nan The wall is tall.", "nan"),
    (PIECES, "The cat<0x0A>sat.", "<0x0A>"),
    (PIECES, "人工<0xE9><0xBE><0x98>，它", "<0xE9>"),
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
    (BREAKS, r"The caf\u00e9 is open.", r"\u00e9 instead"),
    (BREAKS, r"\u4f60\u597d, how are you?", r"\u4f60 instead"),
    (BREAKS, "Two metres._x000D_\nIt is tall.", "_x000D_"),
    (BREAKS, r"One.\r\nTwo.\r\nThree.", r"2 times \n"),
    (BREAKS, r"One.\t\tTwo.\t\tThree.", r"2 times \t"),
    (BREAKS, "The%20wall%20is%20two%20metres%20tall.%0AIt%20is.", "a percent-coded text"),
    (BREAKS, "b'The wall is two metres tall.'", damage.WRITTEN_OUT),
    (BREAKS, "['" + "The wall is tall. It is old. " * 9 + "']", damage.WRITTEN_OUT),
    (ENTITIES, "Don&#39;t worry.", "&#39; and 0 more"),
    (ENTITIES, "Sch&ouml;n.", "&ouml; and 0 more"),
    (ENTITIES, "One<br />two &quot;three&quot;<br />", "&quot; and 1 more"),
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
    (NAN, "## Allergies\nNone\n\n## Drugs\nNone"),
    (NAN, "Which one? Options:\nYes\nNo\nNone"),
    (NAN, "A. Pears B. Plums C. None"),
    (NAN, "What does print([].sort()) show?\nNone"),
    (NAN, "Input: None\nOutput: None, as the function returns it."),
    (NAN, "nan is the result of float('nan')."),
    (NAN, "It shows [object Object] as the text."),
    (PIECES, "<0x0A> is LF, <0x0D> is CR and <0x09> is TAB"),
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
    (BREAKS, r"a literal \u00e9 or \u00e8"),
    (BREAKS, r"In Python, '\u00e9' and '\u00e8' are letters."),
    (BREAKS, r"Unicode writes them \u00e9 and \u00e8."),
    (BREAKS, r"$\theta,\theta$, $x;\text{a}$ and $\to$"),
    (BREAKS, "https://a.se/a%20b%20c%20d%20e%20f"),
    (BREAKS, "q=a%20b%20c%20d%20e%20f"),
    (BREAKS, "['One', 'two', 'three']"),
    (BREAKS, "b is 'two'"),
    (ENTITIES, "AT&amp;T"),
    (ENTITIES, "3 &times; 4"),
    (ENTITIES, "The symbol &Omega; is last."),
    (ENTITIES, "int &num; a &amp b"),
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


@pytest.mark.parametrize("text", ["So it is none.\nNone", "Context: None", "### Input:\nNone"])
def test_none_at_the_end_of_an_answer_is_the_answer(text: str) -> None:
    assert damage.find_missing_value(text) == "None"
    assert damage.find_missing_value(text, is_prompt=False) == ""
