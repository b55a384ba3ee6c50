"""Find thoughts of a reasoning model that are not closed, not opened, or closed by another tag."""

from __future__ import annotations

import re

_NAMES = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|seed:think"
THOUGHT_HINT = "|".join(
    (
        *(rf"</?(?:{name}|{name.capitalize()}|{name.upper()})>" for name in _NAMES.split("|")),
        r"<\|(?:begin|end)_of_thought\|>|\[/?THINK\]|◁/?think▷",
    )
)
"""Without a flag that ignores case, which takes longer."""
_TAG = re.compile(
    rf"<(?P<ends>/?)(?P<name>(?i:{_NAMES}))>|<\|(?P<side>begin|end)_of_thought\|>"
    r"|\[(?P<closes>/?)THINK\]|◁(?P<shuts>/?)think▷"
)
_MENTIONED = re.compile(
    rf"`[^`\n]{{0,200}}`|[\"'“‘(]</?(?:{_NAMES})>[\"'”’)]|</?(?:{_NAMES})>(?= tags?\b)",
    re.IGNORECASE,
)
"""Tags that are written about."""


def find_unclosed_thought(text: str) -> str:
    """Find a text that begins with a thought and never ends it: there is no answer behind it."""
    first = _TAG.match(text.lstrip())
    if first is None or _is_end(first) or any(map(_is_end, _TAG.finditer(text))):
        return ""
    return f"{first.group()} is never closed"


def find_unbalanced_thoughts(text: str) -> str:
    """Find thoughts that do not begin and end in turn with the same name; unclosed ones are not counted."""
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(_MENTIONED.sub(" ", text)):
        if not _is_end(tag):
            if opened:
                return f"{tag.group()} within {opened.group()}"
            opened = tag
        elif not opened:
            return f"{tag.group()} without its beginning"
        elif _kind(tag) != _kind(opened):
            return f"{opened.group()} is closed by {tag.group()}"
        else:
            opened = None
    return f"{opened.group()} is never closed" if opened and not find_unclosed_thought(text) else ""


def ends_in_open_thought(text: str) -> bool:
    """Check whether a prompt ends by opening a thought, so that its completion only closes it."""
    tags = list(_TAG.finditer(text[-40:]))
    return bool(tags) and not _is_end(tags[-1]) and not text[-40:][tags[-1].end() :].strip()


def _is_end(tag: re.Match[str]) -> bool:
    return (
        bool(tag["ends"] or tag["closes"] or tag["shuts"]) or (tag["side"] or "").lower() == "end"
    )


def _kind(tag: re.Match[str]) -> str:
    return (tag["name"] or tag.group()[0] + ("|" if tag["side"] else "")).lower()
