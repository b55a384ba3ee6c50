"""Find what exports and tokenizers leave in texts: missing values, pieces of words, escapes, entities.

Each finder looks at a whole text and reports what it found, empty if nothing. Text in code is not
damage: all of it can be written about, so code and quoted text are left out first.
"""

from __future__ import annotations

import html
import re

CODE = re.compile(r"```[\s\S]*?(?:```|\Z)|`[^`\n]{1,200}`")

_NAMES = "nan|NaN|None|null|NULL|undefined|<NA>|NaT"
_SHEET_ERRORS = ("#NAME?", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NULL!", "#N/A")
_MISSING = frozenset((*_NAMES.split("|"), "NAN", "Null", "[object Object]", *_SHEET_ERRORS))
_EMPTY_INPUTS = _MISSING | {"none", "N/A", "n/a", "<noinput>", "<empty>"}
_NOT_A_NUMBER = re.compile(
    r"\n(?:[A-Z#*][\w #*]{0,30}:[ \t\n]{0,3})?(?P<found>nan|NaN|<NA>|NaT)\s*\Z"
)
"""At the end of a longer text: pasted behind an instruction, or behind a label such as "Input:"."""
_SECTIONS = "(?i:input|context|instructions?|system(?: prompt)?|history|passage|document|background|question|hint)"
_SECTION = re.compile(
    rf"(?:^|\n)#{{2,4}} ?{_SECTIONS} ?:?[ \t]*\n{{1,2}}(?P<found>{_NAMES})[ \t]*(?=\n\s*#{{2,4}} |\s*\Z)"
)
"""The whole value of a section of a prompt template; "## Allergies" may well be None."""
_GREETED = re.compile(
    r"\b(?:Hello|Hi|Hey|Dear) (?P<found>undefined|null|nan|NaN|None|\[object Object\])(?=[,!.\n])"
)
_BEFORE = re.compile(r"\s*(?P<found>nan|<NA>|undefined)[ \n]+(?=[A-Z])")
_LABELLED = re.compile(rf"(?:^|\n){_SECTIONS}:[ \t]*(?P<found>{_NAMES})[ \t]*(?=\n|\Z)")
_BEHIND = re.compile(rf"(?:[a-z\"')]{{2}}[.!?][ \n]+|[。！？]\s*)(?P<found>{_NAMES})\s*\Z")
_PROGRAMMED = re.compile(
    r"```|\b(?:Python|JavaScript|Java|SQL|JSON|def|return|print|function|output|Output|[Ee]xample|type|var|let"
    r"|code|options?|choose|choices?)\b|==|\("
)
"""Texts in which the names of nothing are values, or one of several answers."""
MISSING_VALUE_HINT = (
    rf"^\s*(?:{'|'.join(map(re.escape, sorted(_MISSING)))})\s*$"
    rf"|[\n\t :。！？](?:{_NAMES})\s*$|(?:Hello|Hi|Hey|Dear) (?:undefined|null|[nN]a[nN]|None|\[object)"
    rf"|(?:{_NAMES})[ \t]*\n\s*#|[a-z]:[ \t]*(?:{_NAMES})[ \t]*\n|^\s*(?:nan|<NA>|undefined)\s"
)

PIECE_HINT = r"[ĠĊ]|▁[^▁\s]|<0x[0-9A-F]{2}>|[a-z]@@ | ##[a-z]|[a-z]</w>"
_PIECES = (
    ("Ġ", re.compile("[ĠĊ]")),
    ("▁", re.compile(r"▁(?=[^▁\s])")),
    ("@@", re.compile(r"[a-z]@@ ")),
    ("##", re.compile(r"(?<=\w) ##(?=[a-z])")),
    ("</w>", re.compile(r"(?<=[a-z])</w>")),
)
_BYTE_PIECE = re.compile(
    r"(?<=\w)(?P<found><0x[0-9A-F]{2}>)(?:<0x[0-9A-F]{2}>)*(?=\S)"
    r"|(?<=[.,!?;:)])(?P<behind><0x[0-9A-F]{2}>)(?:<0x[0-9A-F]{2}>)*(?=\w)"
    r"|(?<=\w )(?P<blank><0x[0-9A-F]{2}>)(?=[a-z])"
)
"""Within or between words, without a blank behind; "<0x0A> is LF" is written about."""
_WORD = re.compile(r"[^\W_]+")
LEAST_PIECES = 3
LEAST_PIECE_SHARE = 1 / 4
"""Of the words; Maltese writes Ġ in one of fifty."""

_BREAK = re.compile(r"(?<=[.!?;,])(?:\\r)?\\n|\\n(?=\\n|\\r|\\t|[ *•#>A-Z0-9-]|\Z)|\\r\\n")
_TAB = re.compile(r"(?<=[.!?;,:])\\t(?![a-z])|\\t\\t")
"""Not "\theta" or "\text" behind a comma."""
_UNICODE = re.compile(r"\\u[0-9a-fA-F]{4}")
_UNICODE_IN_WORD = re.compile(r"[a-z]\\u0[01][0-9a-fA-F]{2}")
_RETURN = re.compile("_x000[Dd]_")
_PERCENT = re.compile(r"%(?:20|0A|2C|27|[C-F][0-9A-F]%[89AB][0-9A-F])")
_REPR = re.compile(
    r"""b(?P<mark>['"])[\s\S]{20,}(?P=mark)|\[(?P<quote>['"])[\s\S]{200,}(?P=quote)\]"""
)
ESCAPED_BREAK_HINT = (
    r"[.!?;,]\\(?:r\\)?n|\\n(?:\\n|\\r|\\t|[ *•#>A-Z0-9-])|\\r\\n|[.!?;,:]\\t|\\t\\t|\\u[0-9a-fA-F]{4}|_x000[Dd]_"
    r"""|[A-Za-z.,]%(?:20|0A)[A-Za-z]|%[C-F][0-9A-F]%[89AB]|^\s*[b\[]['"]"""
)
_QUOTED = re.compile(r"\"[^\"\n]{0,300}\"|'[^'\n]{0,20}'|/[^/\s]{0,30}/")
_DISCUSSED = re.compile(
    r"\\[dwsDWS]|regex|escape (?:seq|char)|newline|line break|\\(?:frac|text|begin|nabla|neq)\b"
    r"|(?i:unicode|code ?point|escaped as|\bliteral\b)|openpyxl"
)
WRITTEN_OUT = "a text in the notation of Python"
LEAST_BREAKS = 2
LEAST_PERCENTS = 5
LEAST_SENTENCES_IN_REPR = 2
BREAKS_FOR_EACH_REAL_ONE = 3

_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}[0-9]{0,2}|#[0-9]{2,5}|#x[0-9a-fA-F]{2,5});")
ENTITY_HINT = r"&(?:[A-Za-z]{2,8}[0-9]{0,2}|#[0-9]{2,5}|#x[0-9a-fA-F]{2,5});"
_LINE_TAG = re.compile(r"</?(?:br|hr|BR)\s?/?>")
"""Left by exports of web pages in texts that are not HTML."""
_MARKUP = re.compile(
    r"</?[a-zA-Z][a-zA-Z0-9-]*(?:\s[^<>\n]*)?/?>|\b(?:HTML|XML|XHTML|html|xml|entit|literal\b)|&&|\w\(\)"
)
_TYPED_SIGNS = "\"'’‘“”–—…"
LEAST_ENTITIES = 2


def find_missing_value(text: str, *, is_prompt: bool = True) -> str:
    """Find the text of an empty cell, such as nan: the whole text, a section of it, its start or its end.

    None and its like at the end of an answer are taken as the answer.
    """
    bare = text.strip()
    if bare in _MISSING:
        return bare
    if "```" in text:
        return ""
    found = _NOT_A_NUMBER.search(text) or _GREETED.search(text)
    if not found:
        found = _BEFORE.match(text)
        found = found if found and text.count(found["found"]) == 1 else None
    if not found and is_prompt and not _PROGRAMMED.search(text):
        found = _LABELLED.search(text) or _BEHIND.search(text)
    if not found and is_prompt:
        found = _SECTION.search(text)
    return found["found"] if found else ""


def is_empty_input(value: object) -> bool:
    """Check whether a field holds the text of an empty cell or a filler for one."""
    return isinstance(value, str) and value.strip() in _EMPTY_INPUTS


def find_token_pieces(text: str) -> str:
    """Find the marks of a tokenizer's pieces, if a quarter of the words have them."""
    said = CODE.sub(" ", text)
    piece = _BYTE_PIECE.search(said)
    if piece:
        return next(filter(None, piece.groups()))
    n_words = len(_WORD.findall(said))
    for name, pattern in _PIECES:
        n_pieces = len(pattern.findall(said))
        if n_pieces >= LEAST_PIECES and n_pieces >= LEAST_PIECE_SHARE * n_words:
            return name
    return ""


def find_escaped_breaks(text: str) -> str:
    r"""Find characters written as escapes: \n without real line breaks, \u00e9, _x000D_, %20, b'…'."""
    said = CODE.sub(" ", text)
    written = _written_out(said.strip())
    if written:
        return written
    n_real = said.strip().count("\n")
    if said.lstrip()[:1] in ("{", "[") or _DISCUSSED.search(said):
        return ""
    bare = _QUOTED.sub("", said)
    if _RETURN.search(bare):
        return "_x000D_ instead of a line break"
    escapes = _UNICODE.findall(bare)
    if len(escapes) >= LEAST_BREAKS or _UNICODE_IN_WORD.search(bare):
        return f"{escapes[0]} instead of a character"
    n_breaks = len(_BREAK.findall(bare))
    is_throughout = n_breaks >= LEAST_BREAKS and n_breaks >= BREAKS_FOR_EACH_REAL_ONE * n_real
    if is_throughout:
        return f"{n_breaks} times \\n instead of a line break"
    n_tabs = len(_TAB.findall(bare))
    return f"{n_tabs} times \\t instead of a tab" if n_tabs >= LEAST_BREAKS else ""


def _written_out(text: str) -> str:
    """Find a whole text in the notation of a program: a list of one text, bytes, or percent-coded."""
    found = _REPR.fullmatch(text)
    if found:
        quote = found["mark"] or found["quote"]
        is_one = f"{quote}, {quote}" not in text and f"{quote},{quote}" not in text
        n_sentences = len(re.findall(r"[.!?] [A-Z]|\\n", text))
        if is_one and (found["mark"] or n_sentences >= LEAST_SENTENCES_IN_REPR):
            return WRITTEN_OUT
    is_one_word = " " not in text and "://" not in text and "=" not in text
    is_coded = is_one_word and len(_PERCENT.findall(text)) >= LEAST_PERCENTS
    return "a percent-coded text" if is_coded else ""


def find_entities(text: str) -> str:
    """Find characters written as in HTML, in a text that is neither HTML nor about it.

    One accented letter, apostrophe or quotation mark is enough; other signs are written about.
    """
    said = _LINE_TAG.sub(" ", CODE.sub(" ", text))
    if _MARKUP.search(said):
        return ""
    found = [each for each in _ENTITY.findall(said) if html.unescape(each) != each]
    is_found = len(found) >= LEAST_ENTITIES or any(map(_is_typed, found))
    return f"{found[0]} and {len(found) - 1} more" if is_found else ""


def _is_typed(entity: str) -> bool:
    character = html.unescape(entity)
    return character in _TYPED_SIGNS or (character.isalpha() and "À" <= character <= "ſ")
