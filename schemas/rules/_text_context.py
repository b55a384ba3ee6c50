"""Decide by role and prompt what a flagged text means: an answer may be asked for what would be damage."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from schemas.rule_ids import RowRule
from schemas.rules._message_frame import MessageFrame
from schemas.rules._text_rules import ROLES_OF_RULES
from schemas.texts.answer_ends import FENCE, NEVER_CLOSED, NO_ANSWER, find_broken_end
from schemas.texts.damage import WRITTEN_OUT, find_escaped_breaks, find_missing_value
from schemas.texts.placeholders import find_placeholder
from schemas.texts.thoughts import ends_in_open_thought

if TYPE_CHECKING:
    import polars

_ABOUT_MARKUP = re.compile(
    r"html|xml|markup|entit|escap|encod|ampersand|non.?breaking|web ?page|template", re.IGNORECASE
)
_ABOUT_TEMPLATES = re.compile(
    r"template|placeholder|jinja|handlebars|mustache|\bvue|angular|svelte|\bhelm\b|liquid\b|ansible|\bdbt\b|django"
    r"|\bflask|golang|twig|nunjucks|smarty|\bhugo\b|jekyll|shopify|\breact\b|\bjsx|github action|airflow|\{\{|\{%",
    re.IGNORECASE,
)
_ABOUT_ESCAPES = re.compile(
    r"escap|encod|decod|unicode|code ?point|\burl|regex|\\[nrtu]", re.IGNORECASE
)
_ABOUT_NOTATION = re.compile(
    r"json|python|\blist\b|\barray|\bbytes|repr\b|\bstring|quote", re.IGNORECASE
)
_ABOUT_TURNS = re.compile(
    r"dialog|conversation|transcript|\bscript\b|interview|role-?play|chat ?log|simulate|alpaca|fine-?tun"
    r"|\[EOS\]|<END>|<EOS>",
    re.IGNORECASE,
)


def _is_asked_for_nothing(text: str, prompt: str) -> bool:
    """Check whether the prompt names the answer None, as in "the name, or None", or an end of the answer is it."""
    found = find_missing_value(text, is_prompt=False)
    is_whole = found == text.strip()
    return not found or (
        is_whole and re.search(rf"(?<!\w){re.escape(found)}(?!\w)", prompt) is not None
    )


def _is_asked_for_notation(text: str, prompt: str) -> bool:
    is_list = find_escaped_breaks(text) == WRITTEN_OUT and _ABOUT_NOTATION.search(prompt)
    return bool(is_list or _ABOUT_ESCAPES.search(prompt))


def _is_sound_end(text: str, prompt: str) -> bool:
    """Check whether the prompt opened the code that the answer closes, or asks for turns."""
    if prompt.count(FENCE) % 2 and text.count(FENCE) % 2:
        return True
    breaks_off = find_broken_end(text).endswith((NEVER_CLOSED, NO_ANSWER))
    return not breaks_off and _ABOUT_TURNS.search(prompt) is not None


_EXCUSES: dict[RowRule, Callable[[str, str], bool]] = {
    RowRule.MISSING_VALUE_TEXT: _is_asked_for_nothing,
    RowRule.HTML_ENTITIES: lambda _, prompt: bool(_ABOUT_MARKUP.search(prompt)),
    RowRule.UNRENDERED_PLACEHOLDER: lambda text, prompt: (
        not find_placeholder(text, is_prompt=False) or bool(_ABOUT_TEMPLATES.search(prompt))
    ),
    RowRule.ESCAPED_LINE_BREAKS: _is_asked_for_notation,
    RowRule.ANSWER_BOUNDARY: _is_sound_end,
}
"""By rule: whether an answer is sound after all, given its text and everything before it."""


def in_context(messages: MessageFrame) -> MessageFrame:
    """Clear flags on messages of a role that the rule does not read, and on answers that their prompt explains."""
    import polars

    frame = messages.frame
    names = {str(rule): rule for rule in (*ROLES_OF_RULES, *_EXCUSES) if str(rule) in frame.columns}
    flagged = {name: rule for name, rule in names.items() if frame[name].any()}
    if not flagged:
        return messages
    is_answer = (frame["role"] == "assistant").fill_null(value=False)
    role = polars.col("role").fill_null("")
    roles = {name: ROLES_OF_RULES[rule] for name, rule in flagged.items() if rule in ROLES_OF_RULES}
    frame = frame.with_columns(*(polars.col(name) & (role == roles[name]) for name in roles))
    for name, rule in flagged.items():
        excused = [
            place
            for place in (frame[name] & is_answer).arg_true()
            if frame["turn"][place]
            and _is_excused(rule, frame["text"], place, frame["turn"][place])
        ]
        if excused:
            frame = frame.with_columns(frame[name].scatter(excused, False))
    return replace(messages, frame=frame)


def _is_excused(rule: RowRule, texts: polars.Series, place: int, turn: int) -> bool:
    if rule == RowRule.UNBALANCED_THOUGHT:
        return ends_in_open_thought(texts[place - 1] or "")
    if rule not in _EXCUSES:
        return False
    prompt = "\n".join(text or "" for text in texts[place - turn : place])
    return _EXCUSES[rule](texts[place] or "", prompt)
