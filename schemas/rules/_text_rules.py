"""Rules on the text of a message; `_text_context.py` knows its role and what was asked.

Each rule has a hint and a finder. The hint is a regular expression without look-around that every
text that breaks the rule matches; all hints together are one pass of polars over the texts.
looping_answer and open blocks of code have vectorised searches instead. Only the few texts that
match are checked in Python, by the finder, which decides and describes what it found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from schemas.rule_ids import RowRule
from schemas.texts import damage
from schemas.texts.answer_ends import ANSWER_END_HINT, find_broken_end, open_code_places
from schemas.texts.media_marks import MEDIA_MARK_HINT, find_media_mark
from schemas.texts.mojibake import MOJIBAKE_HINT, find_mojibake
from schemas.texts.placeholders import PLACEHOLDER_HINT, find_placeholder
from schemas.texts.repetition import find_loop, may_loop
from schemas.texts.residue import RESIDUE_HINT, find_residue
from schemas.texts.secrets import SECRET_HINT, find_secrets, secret_kinds
from schemas.texts.special_markers import find_special_marker, special_marker_hint
from schemas.texts.thoughts import THOUGHT_HINT, find_unbalanced_thoughts, find_unclosed_thought

if TYPE_CHECKING:
    import polars

TEXT_RULES = (
    RowRule.CONTROL_CHARACTERS,
    RowRule.ENCODING_DAMAGE,
    RowRule.SPECIAL_TOKEN_INJECTION,
    RowRule.UNRENDERED_PLACEHOLDER,
    RowRule.NEEDS_MEDIA,
    RowRule.MISSING_VALUE_TEXT,
    RowRule.TOKEN_PIECES,
    RowRule.ESCAPED_LINE_BREAKS,
    RowRule.HTML_ENTITIES,
    RowRule.TEXT_RESIDUE,
    RowRule.ANSWER_BOUNDARY,
    RowRule.LOOPING_ANSWER,
    RowRule.UNCLOSED_THOUGHT,
    RowRule.UNBALANCED_THOUGHT,
    RowRule.SECRET_OR_PII,
)
ANSWER_RULES = (
    RowRule.ANSWER_BOUNDARY,
    RowRule.LOOPING_ANSWER,
    RowRule.UNCLOSED_THOUGHT,
    RowRule.UNBALANCED_THOUGHT,
)
ROLES_OF_RULES = {**dict.fromkeys(ANSWER_RULES, "assistant"), RowRule.NEEDS_MEDIA: "user"}
"""Rules on texts that only count in messages of one role."""
MOST_SHOWN_CHARACTERS = 60
MOST_NESTED_ISOLATES = 8

_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
"""C0 without tab and line feed, delete, C1, and what reorders the text around it (Unicode 9:
bidirectional embeddings, overrides and isolates; https://trojansource.codes). Isolates that are closed in
their line are ordinary in Hebrew and Arabic. Joiners, variation selectors, direction marks and the
separators U+2028 and U+2029 are part of ordinary text."""
_ISOLATED = re.compile("[\u2066-\u2068](?P<inside>[^\u2066-\u2069\n\r\u2029]*)\u2069")
_CONTROL = re.compile(
    # The flags of England, Scotland and Wales are the one use of tag characters that is seen.
    "\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
    f"|(?P<found>[{_CONTROLS}\U000e0000-\U000e007f]|\r(?!\n))"
)
_CONTROL_HINT = (
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}"
    r"\x{e0000}-\x{e007f}]|\r[^\n]|\r$"
)

_LOST = re.compile("[\ufffd\ufffe\uffff\ufeff]")
"""The replacement character, the two characters that cannot be, and the byte order mark."""
_LOST_HINT = r"[\x{fffd}-\x{ffff}\x{feff}]"


def text_flags(
    texts: polars.Series,
    rules: Collection[RowRule],
    special_tokens: Sequence[str] = (),
    is_answer: polars.Series | None = None,
) -> dict[RowRule, polars.Series]:
    """Find the texts that break the rules on texts; other rules and null texts are ignored.

    Loops, which take the longest, are looked for in answers only, where it is known which texts are.
    The result has for each of these rules a Boolean series, as long as the texts and without nulls.
    """
    import polars

    asked = [rule for rule in TEXT_RULES if rule in rules]
    if not asked:
        return {}
    texts = texts.cast(polars.String)
    hints = {
        rule: _hint(rule, tuple(special_tokens)) for rule in asked if rule != RowRule.LOOPING_ANSWER
    }
    places = _matching(texts, "|".join(dict.fromkeys(hints.values())) or _NOTHING)
    suspects = texts.gather(places)
    flags = {}
    for rule in asked:
        if rule == RowRule.LOOPING_ANSWER:
            answers = polars.arange(len(texts), eager=True)
            answers = answers.filter(is_answer) if is_answer is not None else answers
            found = answers.filter(may_loop(texts.gather(answers)))
        else:
            found = places.gather(_matching(suspects, hints[rule]))
        if rule == RowRule.ANSWER_BOUNDARY:
            found = polars.concat((found, open_code_places(texts))).unique()
        broken = found.gather(_breaking(rule, texts.gather(found), special_tokens))
        flag = polars.repeat(False, len(texts), dtype=polars.Boolean, eager=True)
        flags[rule] = flag.scatter(broken, True) if len(broken) else flag
    return flags


def describe_text(rule: RowRule, text: str, special_tokens: Sequence[str] = ()) -> str:
    """Describe what breaks a rule on texts; empty if nothing does.

    Characters count from 1. For secret_or_pii only the kinds are listed, never the text.
    """
    match rule:
        case RowRule.CONTROL_CHARACTERS:
            found = _first(_CONTROL, _without_isolates(text))
            return _named(found["found"], found.start()) if found else ""
        case RowRule.ENCODING_DAMAGE:
            return _describe_damage(text)
        case RowRule.SPECIAL_TOKEN_INJECTION:
            return find_special_marker(text, special_tokens) or ""
        case RowRule.SECRET_OR_PII:
            return ", ".join(secret_kinds(text))
        case _:
            return _FINDERS[rule](text)[:MOST_SHOWN_CHARACTERS] if rule in _FINDERS else ""


_NOTHING = r"[^\s\S]"
_FINDERS = {
    RowRule.NEEDS_MEDIA: find_media_mark,
    RowRule.UNRENDERED_PLACEHOLDER: find_placeholder,
    RowRule.TEXT_RESIDUE: find_residue,
    RowRule.ANSWER_BOUNDARY: find_broken_end,
    RowRule.MISSING_VALUE_TEXT: damage.find_missing_value,
    RowRule.TOKEN_PIECES: damage.find_token_pieces,
    RowRule.ESCAPED_LINE_BREAKS: damage.find_escaped_breaks,
    RowRule.HTML_ENTITIES: damage.find_entities,
    RowRule.LOOPING_ANSWER: find_loop,
    RowRule.UNCLOSED_THOUGHT: find_unclosed_thought,
    RowRule.UNBALANCED_THOUGHT: find_unbalanced_thoughts,
}
_HINTS = {
    RowRule.NEEDS_MEDIA: MEDIA_MARK_HINT,
    RowRule.CONTROL_CHARACTERS: _CONTROL_HINT,
    RowRule.ENCODING_DAMAGE: f"{_LOST_HINT}|{MOJIBAKE_HINT}",
    RowRule.UNRENDERED_PLACEHOLDER: PLACEHOLDER_HINT,
    RowRule.TEXT_RESIDUE: RESIDUE_HINT,
    RowRule.ANSWER_BOUNDARY: ANSWER_END_HINT,
    RowRule.MISSING_VALUE_TEXT: damage.MISSING_VALUE_HINT,
    RowRule.TOKEN_PIECES: damage.PIECE_HINT,
    RowRule.ESCAPED_LINE_BREAKS: damage.ESCAPED_BREAK_HINT,
    RowRule.HTML_ENTITIES: damage.ENTITY_HINT,
    RowRule.UNCLOSED_THOUGHT: THOUGHT_HINT,
    RowRule.UNBALANCED_THOUGHT: THOUGHT_HINT,
    RowRule.SECRET_OR_PII: SECRET_HINT,
}


def _matching(texts: polars.Series, expression: str) -> polars.Series:
    return texts.str.contains(expression).fill_null(value=False).arg_true()


@lru_cache(maxsize=16)
def _hint(rule: RowRule, special_tokens: tuple[str, ...]) -> str:
    return _HINTS[rule] if rule in _HINTS else special_marker_hint(special_tokens)


def _breaking(rule: RowRule, texts: polars.Series, special_tokens: Sequence[str]) -> list[int]:
    if rule == RowRule.SECRET_OR_PII:
        return find_secrets(texts)
    return [place for place, text in enumerate(texts) if describe_text(rule, text, special_tokens)]


def _first(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next((match for match in pattern.finditer(text) if match["found"]), None)


def _without_isolates(text: str) -> str:
    """Replace isolates that are closed in their line by blanks, inner ones first."""
    for _ in range(MOST_NESTED_ISOLATES):
        text, count = _ISOLATED.subn(r" \g<inside> ", text)
        if not count:
            break
    return text


def _describe_damage(text: str) -> str:
    lost = _LOST.search(text)
    if lost:
        return _named(lost.group(), lost.start())
    found = find_mojibake(text)
    return f"mojibake {found[1]!r} at character {found[0] + 1}" if found else ""


def _named(character: str, place: int) -> str:
    return f"U+{ord(character):04X} at character {place + 1}"
