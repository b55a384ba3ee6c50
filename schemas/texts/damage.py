"""Find what exports and tokenizers leave in texts: missing values, pieces of words, escapes, entities.

Each finder looks at a whole text and reports what it found, empty if nothing. Text in code is not
damage: all of it can be written about, so code and quoted text are left out first.
"""

from __future__ import annotations

import re

CODE = re.compile(r"```[\s\S]*?(?:```|\Z)|`[^`\n]{1,200}`")

_MISSING = ("nan", "NaN", "NAN", "None", "null", "NULL", "Null", "<NA>", "NaT", "#N/A", "undefined")
_EMPTY_INPUTS = frozenset((*_MISSING, "none", "N/A", "n/a", "<noinput>", "<empty>"))
_NOT_A_NUMBER = re.compile(
    r"\n(?:[A-Z#*][\w #*]{0,30}:[ \t\n]{0,3})?(?P<found>nan|NaN|<NA>|NaT)\s*\Z"
)
"""At the end of a longer text: pasted behind an instruction, or behind a label such as "Input:"."""
MISSING_VALUE_HINT = rf"^\s*(?:{'|'.join(_MISSING)})\s*$|[\n\t :](?:nan|NaN|<NA>|NaT)\s*$"

PIECE_HINT = r"[ĠĊ]|▁[^▁\s]|<0x[0-9A-F]{2}>|[a-z]@@ | ##[a-z]|[a-z]</w>"
_PIECES = (
    ("Ġ", re.compile("[ĠĊ]")),
    ("▁", re.compile(r"▁(?=[^▁\s])")),
    ("@@", re.compile(r"[a-z]@@ ")),
    ("##", re.compile(r"(?<=\w) ##(?=[a-z])")),
    ("</w>", re.compile(r"(?<=[a-z])</w>")),
)
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_WORD = re.compile(r"[^\W_]+")
LEAST_PIECES = 3
LEAST_BYTE_PIECES = 2
LEAST_PIECE_SHARE = 1 / 4
"""Of the words; Maltese writes Ġ in one of fifty."""

_BREAK = re.compile(r"(?<=[.!?;,])\\n|\\n(?=\\n|\\t|[ *•#>A-Z0-9-]|\Z)")
ESCAPED_BREAK_HINT = r"[.!?;,]\\n|\\n(?:\\n|\\t|[ *•#>A-Z0-9-])"
_QUOTED = re.compile(r"\"[^\"\n]{0,300}\"|'[^'\n]{0,20}'|/[^/\s]{0,30}/")
_DISCUSSED = re.compile(
    r"\\[dwsDWS]|regex|escape (?:seq|char)|newline|line break|\\(?:frac|text|begin|nabla|neq)\b"
)
LEAST_BREAKS = 2
BREAKS_FOR_EACH_REAL_ONE = 3

_ENTITY = re.compile(
    r"&(?:amp|quot|lt|gt|nbsp|apos|[lr]dquo|[lr]squo|[mn]dash|hellip|#[0-9]{2,5}|#x[0-9a-fA-F]{2,5});"
)
ENTITY_HINT = r"&(?:[a-z]{2,6}|#[0-9]{2,5}|#x[0-9a-fA-F]{2,5});"
_MARKUP = re.compile(
    r"</?[a-zA-Z][a-zA-Z0-9-]*(?:\s[^<>\n]*)?/?>|\b(?:HTML|XML|XHTML|html|xml|entit)"
)
LEAST_ENTITIES = 2


def find_missing_value(text: str) -> str:
    """Find the text of an empty cell, such as nan: the whole text, or its end behind a line break."""
    if text.strip() in _MISSING:
        return text.strip()
    found = _NOT_A_NUMBER.search(text)
    return found["found"] if found and "```" not in text else ""


def is_empty_input(value: object) -> bool:
    """Check whether a field holds the text of an empty cell or a filler for one."""
    return isinstance(value, str) and value.strip() in _EMPTY_INPUTS


def find_token_pieces(text: str) -> str:
    """Find the marks of a tokenizer's pieces, if a quarter of the words have them."""
    said = CODE.sub(" ", text)
    n_bytes = len(_BYTE_PIECE.findall(said))
    if n_bytes >= LEAST_BYTE_PIECES:
        return _BYTE_PIECE.findall(said)[0]
    n_words = len(_WORD.findall(said))
    for name, pattern in _PIECES:
        n_pieces = len(pattern.findall(said))
        if n_pieces >= LEAST_PIECES and n_pieces >= LEAST_PIECE_SHARE * n_words:
            return name
    return ""


def find_escaped_breaks(text: str) -> str:
    r"""Find line breaks written as the two characters \n, in a text without real ones or nearly so."""
    said = CODE.sub(" ", text)
    n_real = said.strip().count("\n")
    if said.lstrip()[:1] in ("{", "[") or _DISCUSSED.search(said):
        return ""
    n_breaks = len(_BREAK.findall(_QUOTED.sub("", said)))
    is_throughout = n_breaks >= LEAST_BREAKS and n_breaks >= BREAKS_FOR_EACH_REAL_ONE * n_real
    return f"{n_breaks} times \\n instead of a line break" if is_throughout else ""


def find_entities(text: str) -> str:
    """Find characters written as in HTML, in a text that is neither HTML nor about it."""
    said = CODE.sub(" ", text)
    if _MARKUP.search(said):
        return ""
    found = _ENTITY.findall(said)
    return f"{found[0]} and {len(found) - 1} more" if len(found) >= LEAST_ENTITIES else ""
