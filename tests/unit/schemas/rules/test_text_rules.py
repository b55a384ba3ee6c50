from __future__ import annotations

import polars as pl
import pytest

from schemas.rule_ids import RowRule
from schemas.rules._text_rules import TEXT_RULES, describe_text, text_flags

# For each rule: a text that breaks it, what is said of it, and nothing said of its neighbours.
BROKEN: list[tuple[RowRule, str, str]] = [
    (RowRule.CONTROL_CHARACTERS, "ring the bell\x07", "U+0007 at character 14"),
    (RowRule.CONTROL_CHARACTERS, "\x00", "U+0000 at character 1"),
    (RowRule.CONTROL_CHARACTERS, "\x1b[31mred", "U+001B at character 1"),
    (RowRule.CONTROL_CHARACTERS, "page\x0cpage", "U+000C at character 5"),
    (RowRule.CONTROL_CHARACTERS, "delete\x7f", "U+007F at character 7"),
    (RowRule.CONTROL_CHARACTERS, "next\x85line", "U+0085 at character 5"),
    (RowRule.CONTROL_CHARACTERS, "a\rb", "U+000D at character 2"),
    (RowRule.CONTROL_CHARACTERS, "a\r\r\nb", "U+000D at character 2"),
    (RowRule.CONTROL_CHARACTERS, "a\r", "U+000D at character 2"),
    (RowRule.CONTROL_CHARACTERS, "if (\u202eadmin\u202c)", "U+202E at character 5"),
    (RowRule.CONTROL_CHARACTERS, "\u2066x", "U+2066 at character 1"),
    (RowRule.CONTROL_CHARACTERS, "x\u2069", "U+2069 at character 2"),
    (RowRule.CONTROL_CHARACTERS, "\u2066x\ny\u2069", "U+2066 at character 1"),
    (RowRule.CONTROL_CHARACTERS, "\u2067a\u202eb\u2069", "U+202E at character 3"),
    (RowRule.CONTROL_CHARACTERS, "\u2067a\u2066b\u2069", "U+2067 at character 1"),
    (RowRule.CONTROL_CHARACTERS, "hidden\U000e0041\U000e0042", "U+E0041 at character 7"),
    (RowRule.ENCODING_DAMAGE, "caf\ufffd", "U+FFFD at character 4"),
    (RowRule.ENCODING_DAMAGE, "\ufeffHello", "U+FEFF at character 1"),
    (RowRule.ENCODING_DAMAGE, "a\ufeffb", "U+FEFF at character 2"),
    (RowRule.ENCODING_DAMAGE, "a\ufffe", "U+FFFE at character 2"),
    (RowRule.ENCODING_DAMAGE, "le cafÃ© noir", "mojibake 'Ã©' at character 7"),
    (RowRule.ENCODING_DAMAGE, "10Â\u00a0km", r"mojibake 'Â\xa0' at character 3"),
    (RowRule.SPECIAL_TOKEN_INJECTION, "Hi<|im_start|>system", "<|im_start|>"),
    (RowRule.SPECIAL_TOKEN_INJECTION, "[INST] Hi [/INST]", "[INST]"),
    (RowRule.SPECIAL_TOKEN_INJECTION, "Done.</s>", "</s>"),
    (RowRule.UNRENDERED_PLACEHOLDER, "Dear {{name}},", "{{name}}"),
    (RowRule.UNRENDERED_PLACEHOLDER, "Dear {{ user.name }},", "{{ user.name }}"),
    (RowRule.UNRENDERED_PLACEHOLDER, "Order {{Order Number}}", "{{Order Number}}"),
    (RowRule.UNRENDERED_PLACEHOLDER, "{{ name | upper }}", "{{ name | upper }}"),
    (RowRule.UNRENDERED_PLACEHOLDER, "{{#if name}}", "{{#if name}}"),
    (RowRule.UNRENDERED_PLACEHOLDER, "{% for x in rows %}", "{% for x in rows %}"),
    (RowRule.UNRENDERED_PLACEHOLDER, "A: <your answer>", "<your answer>"),
    (RowRule.UNRENDERED_PLACEHOLDER, "A: <YOUR_NAME>", "<YOUR_NAME>"),
    (RowRule.UNRENDERED_PLACEHOLDER, "A: <answer here>", "<answer here>"),
    (RowRule.UNRENDERED_PLACEHOLDER, "on [INSERT DATE]", "[INSERT DATE]"),
    (RowRule.UNRENDERED_PLACEHOLDER, "Sincerely, [Your Name]", "[Your Name]"),
    (RowRule.MISSING_VALUE_TEXT, "nan", "nan"),
    (RowRule.TOKEN_PIECES, "The Ġcat Ġsat Ġon", "Ġ"),
    (RowRule.ESCAPED_LINE_BREAKS, r"One.\nTwo.\nThree.", r"2 times \n instead of a line break"),
    (RowRule.HTML_ENTITIES, "It&#39;s Tom&#39;s", "&#39; and 1 more"),
    (RowRule.TEXT_RESIDUE, "It is two【4†source】.", "【4†source】"),
    (RowRule.ANSWER_BOUNDARY, "It is two.\n### Human:", "### Human:"),
    (RowRule.ANSWER_BOUNDARY, "So:\n```\nx = 1", "a block of code is never closed"),
    (RowRule.LOOPING_ANSWER, "I am happy. " * 9, "'I am happy.' 9 times at the end"),
    (RowRule.UNCLOSED_THOUGHT, "<think>Well", "<think> is never closed"),
    (RowRule.UNBALANCED_THOUGHT, "Well.</think>", "</think> without its beginning"),
    (RowRule.SECRET_OR_PII, "anna@firma.se, 4539 1488 0343 6467", "card number, e-mail address"),
]

LEGAL: list[str | None] = [
    None,
    "",
    " ",
    "one\ttwo\nthree\r\nfour",
    "👩‍👩‍👧 ❤️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 🇸🇪",
    "می‌خواهم",
    "\u2067שלום \u2066abc\u2069 עולם\u2069 and \u2068x\u2069",
    "\u200fשלום\u200e",
    "line\u2028line\u2029paragraph, soft\u00adhyphen, zero\u200bwidth",
    "Räksmörgås på Åland, ÄÖÅ",
    "NÃO, São, HYVÄ…, 5 Å³, « très\u00a0»",
    "北京是中华人民共和国的首都。「你好」",
    r"a literal \u00e9 or \x07 or &eacute;",
    "<think>Well.</think> It costs <s>12</s> 10 euros.",
    r"\binom{n}{k} and x^{{n \choose k}} and \frac{{ab}}{{cd}} and \mathbf{{xy}}",
    r"\newcommand{\x}{%" + "\n  y}",
    "{{n}} and {{ 12 }} and {name} and ${NAME} and %s and {}",
    "style={{color: 'red'}} title = {{Nature}} ${{ secrets.KEY }}",
    "Write `{{ name }}` or\n```jinja\nDear {{ name }}, {% if x %}\n```",
    "<your-component> <insert id='x'> <name> <b>here</b> vector<your_type>",
    "[your account](https://firma.se) rows[your index] [Enter Hamlet] [your]",
    "1200 - 350 = 850, 2023-01-15, anna at firma.se, 4111 1111 1111 1112",
]


@pytest.mark.parametrize(("rule", "text", "seen"), BROKEN)
def test_text_flags_and_description_of_a_broken_rule(rule: RowRule, text: str, seen: str) -> None:
    assert describe_text(rule, text) == seen
    flags = text_flags(pl.Series([None, text, "fine"]), TEXT_RULES)
    assert {name: flag.to_list() for name, flag in flags.items() if flag.any()} == {
        rule: [False, True, False]
    }


def test_text_flags_leave_legal_neighbours_alone() -> None:
    flags = text_flags(pl.Series(LEGAL), TEXT_RULES)
    flagged = {rule: [LEGAL[row] for row in flag.arg_true()] for rule, flag in flags.items()}
    assert flagged == {rule: [] for rule in TEXT_RULES}


@pytest.mark.parametrize("rule", TEXT_RULES)
@pytest.mark.parametrize("text", [text for text in LEGAL if text is not None])
def test_describe_text_says_nothing_of_legal_texts(rule: RowRule, text: str) -> None:
    assert describe_text(rule, text) == ""


def test_text_flags_are_boolean_and_as_long_as_the_texts() -> None:
    for texts in (pl.Series([], dtype=pl.String), pl.Series([None, None]), pl.Series(["a", None])):
        flags = text_flags(texts, TEXT_RULES)
        assert set(flags) == set(TEXT_RULES)
        for flag in flags.values():
            assert flag.dtype == pl.Boolean
            assert flag.to_list() == [False] * len(texts)


def test_text_flags_answer_only_the_rules_asked_for() -> None:
    asked = (RowRule.CONTROL_CHARACTERS, RowRule.CONTENT_EMPTY)
    assert set(text_flags(pl.Series(["\x07 \ufffd"]), asked)) == {RowRule.CONTROL_CHARACTERS}
    assert text_flags(pl.Series(["\x07"]), ()) == {}


def test_text_flags_keep_the_rules_of_one_text_apart() -> None:
    texts = pl.Series(["fine", "\x07 {{name}}", "\ufffd", "fine", "{{name}}"])
    flags = text_flags(texts, TEXT_RULES)
    assert flags[RowRule.CONTROL_CHARACTERS].arg_true().to_list() == [1]
    assert flags[RowRule.ENCODING_DAMAGE].arg_true().to_list() == [2]
    assert flags[RowRule.UNRENDERED_PLACEHOLDER].arg_true().to_list() == [1, 4]


def test_text_flags_find_loops_when_nothing_else_is_asked_for() -> None:
    rule = RowRule.LOOPING_ANSWER
    texts = pl.Series([None, "fine", "I am happy. " * 9])
    assert text_flags(texts, [rule])[rule].to_list() == [False, False, True]


def test_text_flags_know_the_tokens_of_the_model() -> None:
    texts = pl.Series(["an <image> here", "an image"])
    rule = RowRule.SPECIAL_TOKEN_INJECTION
    assert text_flags(texts, [rule])[rule].to_list() == [False, False]
    assert text_flags(texts, [rule], ("<image>",))[rule].to_list() == [True, False]
    assert describe_text(rule, "an <image> here", ("<image>",)) == "<image>"


def test_describe_text_shortens_what_is_long() -> None:
    described = describe_text(RowRule.UNRENDERED_PLACEHOLDER, "{{ab | " + "x" * 50 + " }}")
    assert described == "{{ab | " + "x" * 50 + " }}"
    described = describe_text(RowRule.UNRENDERED_PLACEHOLDER, "{% if " + "x" * 90 + " %}")
    assert described == "{% if " + "x" * 54


def test_describe_text_is_empty_for_other_rules() -> None:
    assert describe_text(RowRule.CONTENT_EMPTY, "\x07") == ""


@pytest.mark.parametrize(
    "piece",
    [
        "{{ab ",
        "{{",
        "`",
        "<your ",
        "[your ",
        "<s>",
        "Ã",
        "Â\u00a0",
        "é\u00a0",
        "<|a",
        "\U0001f3f4\U000e0041",
        "\u2066",
        "\u2066a\u2069",
        "<think>",
        "Ġ",
        "\\n",
        "&amp;",
        "call 12 ",
        "DE12 ",
    ],
)
def test_finders_take_linear_time(piece: str) -> None:
    """Quadratic ones would run for an hour on a line of this length."""
    said = [describe_text(rule, piece * 100_000) for rule in TEXT_RULES]
    assert all(len(detail) < 1000 for detail in said)
