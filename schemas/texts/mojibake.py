"""Find mojibake: UTF-8 text that was decoded in another encoding, mostly Windows-1252, and stored like that.

"é" (bytes C3 A9) is then "Ã©". A place is only reported if its characters, converted back to bytes,
are UTF-8, and if ordinary writing does not explain them: "IRMÃ”", "HYVÄ…", "5 Å³" and the French
"é »" with a no-break space decode as well. Rare letters with ordinary punctuation are therefore
ignored on their own; damaged text usually has plainer marks too. The same for Windows-1251 (Cyrillic),
the code pages 437 and 850 of consoles, and Chinese and Korean text that was decoded as Latin-1.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator

_MOST_SHOWN = 8
_FIRST_CONTINUATION, _LAST_CONTINUATION = 0x80, 0xBF


def _bytes_of_characters() -> dict[str, int]:
    """Map each character to the byte it was decoded from; Windows-1252 leaves five bytes to Latin-1."""
    table = {chr(byte): byte for byte in range(0x80, 0x100)}
    for byte in range(0x80, 0xA0):
        character = bytes([byte]).decode("cp1252", errors="ignore")
        if character:
            table[character] = byte
    return table


_BYTES = _bytes_of_characters()
_TAIL = "".join(
    character
    for character, byte in _BYTES.items()
    if _FIRST_CONTINUATION <= byte <= _LAST_CONTINUATION
)
"""The characters that bytes 80 to BF, the later bytes of a UTF-8 sequence, are read as."""

_LATIN_LEADS = "ÂÃÄÅ"
"""Read from C2 to C5: signs and the accented letters of Latin scripts."""
_SCRIPT_LEADS = "ÎÏÐÑ×ØÙÚÛ"
"""Read from CE to DB: Greek, Cyrillic, Hebrew and Arabic."""
_SIGN_LEADS = "áâï"
"""Read from E1, E2 and EF: Vietnamese letters, typographic signs, full-width forms and U+FEFF."""

_PUNCTUATION = "\u00a0»”’›–—…“‘"
"""What may follow a word; "“" and "‘" close quotations in German and Czech."""
_QUOTES = "”»›“‘"
_DASHES = "–—…"
_AFTER_ANGSTROM = "²³¹±·°"
_AFTER_LETTER = frozenset(_PUNCTUATION + "«‹‚„·•™®©²³¹°ºª")

_SEQUENCE = f"[{_LATIN_LEADS}{_SCRIPT_LEADS}][{_TAIL}]|[à-íï][{_TAIL}]{{2}}|[ð-ô][{_TAIL}]{{3}}"
_RUN = re.compile(f"(?:{_SEQUENCE})+")
_ONE_SEQUENCE = re.compile(_SEQUENCE)
_CERTAIN = re.compile("â€|‚Ä[ôúùìîò¶¢]")
""""â€" begins every damaged quote and dash, also where its last byte was lost; "‚Ä" is the same
read as Mac Roman."""

_CYRILLIC_TAIL = "".join(
    bytes([byte]).decode("cp1251", errors="ignore")
    for byte in range(_FIRST_CONTINUATION, _LAST_CONTINUATION + 1)
)
_CONSOLE_TAIL = "".join(
    bytes(range(_FIRST_CONTINUATION, _LAST_CONTINUATION + 1)).decode(page)
    for page in ("cp437", "cp850")
)
_OTHERS = (
    # UTF-8 as Windows-1251: in Russian no word has Р or С before every other letter
    f"(?:[РС][{_CYRILLIC_TAIL}]){{4,}}|вЂ[™њќ”“¦ў]",
    # UTF-8 as code page 437 or 850: tables have lines, not letters, on both sides
    f"(?<=[^\\W\\d_])(?:[├┬][{_CONSOLE_TAIL}])+(?=[^\\W\\d_])|ΓÇ[Öÿ£¥ôöª]",
    # what GBK makes of U+FFFD and of memory that was not written to
    "锟斤拷锟斤拷|烫{8,}|屯{8,}",
)
_OTHER = re.compile("|".join(_OTHERS))
_DOUBLE_BYTES = re.compile("(?:[°-×][¡-þ]){4,}")
"""The common characters of GB 2312 and KS X 1001, read as Latin-1."""
_SIGNS = re.compile("[°-¿]")
_LEAST_SIGNS = 2

MOJIBAKE_HINT = (
    f"(?:[РС][{_CYRILLIC_TAIL}]){{4}}|вЂ[™њќ”“¦ў]|[├┬][{_CONSOLE_TAIL}]\\w|ΓÇ[Öÿ£¥ôöª]|锟斤拷锟|烫{{8}}|屯{{8}}"
    "|(?:[°-×][¡-þ]){4}|"
    f"â€|‚Ä[ôúùìîò¶¢]|[{_LATIN_LEADS}][{_TAIL}]|[à-íï][{_TAIL}]{{2}}|[ð-ô][{_TAIL}]{{3}}"
    f"|[{_SCRIPT_LEADS}][{_TAIL}][{_SCRIPT_LEADS}][{_TAIL}]"
)
"""Regular expression without look-around that every text with mojibake matches."""


def find_mojibake(text: str) -> tuple[int, str] | None:
    """Find the first place that is UTF-8 decoded in another encoding: its start from 0, and its text."""
    places = list(_places(text))
    return min(places) if places else None


def _places(text: str) -> Iterator[tuple[int, str]]:
    certain = _CERTAIN.search(text)
    if certain:
        yield certain.start(), certain.group()
    other = _OTHER.search(text)
    if other:
        yield other.start(), other.group()[:_MOST_SHOWN]
    doubled = next(filter(_is_double_byte, _DOUBLE_BYTES.finditer(text)), None)
    if doubled:
        yield doubled.start(), doubled.group()[:_MOST_SHOWN]
    for run in _RUN.finditer(text):
        decodable = [
            match
            for match in _ONE_SEQUENCE.finditer(text, run.start(), run.end())
            if _decoded(match.group())
        ]
        for match in decodable:
            if _is_damage(text, match, is_in_run=len(decodable) > 1):
                yield match.start(), match.group()
                return


def _is_double_byte(match: re.Match[str]) -> bool:
    """Check that letters and signs are mixed, as no word has them, and not listed in their order."""
    run = match.group()
    ascending = sum(ord(after) == ord(before) + 1 for before, after in itertools.pairwise(run))
    n_signs = len(_SIGNS.findall(run))
    is_mixed = _LEAST_SIGNS <= n_signs <= len(run) - _LEAST_SIGNS and len(set(run)) > len(run) // 2
    if not is_mixed or ascending * 2 > len(run):
        return False
    try:
        return bool(run.encode("latin-1").decode("gb2312"))
    except UnicodeDecodeError:
        return False


def _decoded(characters: str) -> str | None:
    """Convert the characters back to bytes and decode them as UTF-8; control characters do not count."""
    try:
        character = bytes(_BYTES[each] for each in characters).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if unicodedata.category(character) in ("Cc", "Cn", "Co") else character


def _is_damage(text: str, match: re.Match[str], *, is_in_run: bool) -> bool:
    lead, tail = match.group()[0], match.group()[1:]
    if lead in _LATIN_LEADS:
        return _is_latin_damage(text, match)
    is_odd = not _AFTER_LETTER.issuperset(tail)
    if lead in _SIGN_LEADS or lead in "ðñòóô":
        return is_odd
    return is_in_run and (is_odd or lead in _SCRIPT_LEADS)


def _is_latin_damage(text: str, match: re.Match[str]) -> bool:
    lead, tail = match.group()[0], match.group()[1]
    if tail not in _PUNCTUATION:
        return not (lead == "Å" and tail in _AFTER_ANGSTROM)
    before = text[max(0, match.start() - 1) : match.start()]
    after = text[match.end() : match.end() + 1]
    if lead in "ÂÃ" and before.islower():
        return True  # no word goes on in capitals
    if lead == "Â" and tail == "\u00a0":
        return before.isdigit() or before in tuple(".,;:!?)%")
    if tail in _DASHES:  # "Ã–l" is "Öl", "AMANHÃ–TARDE" a range
        return lead == "Ã" and not before.isalpha() and after.isalpha()
    return tail in _QUOTES and after.isalpha()
