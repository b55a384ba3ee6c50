"""Find what copying leaves in texts: invisible characters, marks of citations, halves of markers."""

from __future__ import annotations

import re

from schemas.texts.damage import CODE

_MARKERS = "im_start|im_end|im_sep|eot_id|eom_id|endoftext|end_of_text|begin_of_text|end_of_turn|start_of_turn"
_HALF_MARKER = re.compile(
    rf"<\|(?:{_MARKERS}|start_header_id|end_header_id)(?![\w|])|(?<![\w|<])(?:{_MARKERS})\|>"
)
_CITATION = re.compile(
    r"【[0-9]{1,3}(?::[0-9]{1,3})?†[^】\n]{0,60}】|oaicite:?[0-9]|turn[0-9]{1,3}(?:search|view|news|fetch)[0-9]"
)
"""As ChatGPT writes them; its interface shows a link instead."""
_UNSHOWN = re.compile("[\ufffc\ue000-\uf8fe]")
"""The place of a picture, and characters that only one font has; U+F8FF is Apple's sign."""
VISIBLE = r"[^\s\x{ad}\x{200b}-\x{200f}\x{2060}\x{feff}]"
"""Any character but white space and those without a width, in Rust's syntax."""
_HIDDEN = "\u00ad\u200b-\u200f\u2060\ufeff"
_CHAIN = re.compile(rf"(?<=[A-Za-z0-9.,;:!?)])(?P<found>[{_HIDDEN}]{{2,}})(?= ?[A-Za-z0-9(])")
_BREAKER = re.compile("(?<=[A-Za-z.,;:!?])(?P<found>[\u200b\u2060\u200e\u200f]) ?(?=[A-Za-z])")
_BREAKER_BEHIND = re.compile(
    "(?<=[A-Za-z.,;:!?] )(?P<found>[\u200b\u2060\u200e\u200f]+)(?=[A-Za-z])"
)
_HYPHENATED = re.compile("(?<![A-Za-zÀ-ſ])[A-Za-zÀ-ſ]+(?:\u00ad[A-Za-zÀ-ſ]+)+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")
LEAST_BREAKERS = 3
LEAST_HYPHENATED = 5
"""One place where a line may break is typography; a word with soft hyphens is as well."""
RESIDUE_HINT = (
    rf"<\|(?:{_MARKERS}|start_header_id|end_header_id)|(?:{_MARKERS})\|>|†[^】\n]{{0,60}}】|oaicite"
    r"|turn[0-9]{1,3}(?:search|view|news|fetch)[0-9]|[\x{fffc}\x{e000}-\x{f8fe}]"
    r"|[A-Za-z0-9.,;:!?)] ?[\x{ad}\x{200b}-\x{200f}\x{2060}\x{feff}]"
)


def find_residue(text: str) -> str:
    """Find the first kind of residue in a text, code left out; empty if there is none.

    Joiners of Persian, Indic scripts and emoji, spaces of Thai and Khmer, and direction marks in Hebrew and
    Arabic are part of ordinary text.
    """
    said = CODE.sub(" ", text)
    for pattern in (_HALF_MARKER, _CITATION):
        found = pattern.search(said)
        if found:
            return found.group()
    found = _UNSHOWN.search(said)
    if found:
        return _named(found)
    if _RIGHT_TO_LEFT.search(said):
        return ""
    found = _CHAIN.search(said)
    if found:
        return _named(found)
    breakers = [*_BREAKER.finditer(said), *_BREAKER_BEHIND.finditer(said)]
    if len(breakers) >= LEAST_BREAKERS:
        return f"{_named(breakers[0])} and {len(breakers) - 1} more"
    words = set(_HYPHENATED.findall(said))
    return f"U+00AD in {len(words)} words" if len(words) >= LEAST_HYPHENATED else ""


def _named(match: re.Match[str]) -> str:
    return f"U+{ord(match.group()[0]):04X}"
