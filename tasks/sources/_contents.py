"""What a file contains, whatever its name says: recognised by its first bytes."""

from __future__ import annotations

import codecs
import re
from dataclasses import replace

from schemas.errors import DataSourceError
from tasks.sources._compression import DataFile, open_data
from tasks.sources._kinds import (
    ARCHIVE_ENDING,
    COMPRESSIONS,
    CSV_ENDINGS,
    JSON_ENDINGS,
    TEXT_ENDINGS,
    WRITE_ROWS,
)
from tasks.sources._row_shapes import are_known

START_BYTES = 1 << 20
"""Read to find out what a file is."""
PATTERN_BYTES = 64
"""Looked at for characters of two or four bytes."""
CONTROL_SIGNS = tuple(bytes([number]) for number in range(32) if number not in b"\t\n\r\f\v\x1b")
"""Texts of any encoding have next to none of them."""
FEWEST_LINES = 3
"""Lines that are not UTF-8 from which the file as a whole counts as such; fewer are damaged rows."""
GUESSED_BYTES = 20_000
"""Looked at to guess an encoding."""
MOST_GUESSES = 3

CODECS = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""How packed files begin."""
KINDS_BY_START = (
    (re.compile(rb"PAR1[^ -~\s]"), ".parquet"),
    (re.compile(rb"ARROW1\0\0|\xff\xff\xff\xff"), ".arrow"),
    (re.compile(rb"PK\x03\x04|PK\x05\x06"), ARCHIVE_ENDING),
)
"""How files begin that are read in one way only; no CSV file begins like this."""
WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks of encodings that are decoded; the first that fits counts."""
NULL_PATTERNS = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}
"""Which bytes of four are mostly zero where text without a byte order mark begins."""
JSON_ROWS = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*"[^"\n]*"\s*:')
"""How JSON begins and a header of CSV does not."""
DOWNLOAD = (
    "download the file itself: from GitHub the raw file, from the Hub its address with /resolve/"
)
NO_TEXT = "name a file with texts: only text is trained"
FOREIGN = (
    (rb"version https://git-lfs\.github\.com/spec/", "a Git LFS pointer, not the data it points to",
     "run `git lfs pull` in its repository, or download the file itself"),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", "a web page (HTML), perhaps of a login",
     DOWNLOAD),
    (rb"(?i)(\xef\xbb\xbf)?\s*<\?xml\b", "XML, perhaps an error message of a store", DOWNLOAD),
    (rb"%PDF-|\{\\rtf|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document (PDF, RTF or Office)",
     "write its texts as rows first: one JSON object a line (.jsonl)"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|RIFF....(WEBP|WAVE|AVI )|OggS\0|fLaC\0|ID3[\x02-\x04]\0",
     "a picture, sound or video", NO_TEXT),
    (rb"BZh[1-9]1AY|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!\x1a|\x04\x22\x4d\x18|.{257}ustar",
     "packed in a way that is not read", "unpack it, and name the file or folder with the rows"),
    (rb"SQLite format 3\0|ORC[\0-\x1f]|Obj\x01|\x93NUMPY|\x89HDF|\x80[\x02-\x05]|FEA1\0",
     "a file of another program (SQLite, ORC, Avro, NumPy, HDF5, pickle or Feather 1)", WRITE_ROWS),
)  # fmt: skip
"""How files begin that are not read: what they are, and the way out."""
SIGNATURES = tuple((re.compile(start, re.DOTALL), what, fix) for start, what, fix in FOREIGN)


def identify(file: DataFile, kind: str) -> tuple[DataFile, str]:
    """Find out how to read a file: what it begins with counts more than its name.

    Args:
        file: The file, as its name describes it.
        kind: The ending of its name.

    Returns:
        The file with the codec and encoding it has, and the ending of its kind.

    Raises:
        DataSourceError: It is of a kind that cannot be read, or its encoding is not known.
    """
    start = _start(file)
    codec = next((name for mark, name in CODECS.items() if start.startswith(mark)), "")
    if codec and not file.codec and not file.encoding:
        file = replace(file, codec=codec)
        start = _start(file)
    found = next((ending for mark, ending in KINDS_BY_START if mark.match(start)), "")
    if found:
        is_archived = bool(file.member or file.codec) and found == ARCHIVE_ENDING
        if is_archived:
            raise _refused(file, "an archive in an archive", "unpack it first")
        return replace(file, encoding=""), found
    for signature, what, fix in SIGNATURES:
        if signature.match(start):
            raise _refused(file, what, fix)
    _check_ending(file, kind, start)
    if kind in TEXT_ENDINGS:
        return _with_encoding(file, start), kind
    looks_like_json = start.lstrip(codecs.BOM_UTF8 + b" \t\r\n")[:1] in (b"{", b"[")
    if looks_like_json:
        raise _refused(file, "JSON", f"end its name in .jsonl{_packing(file)}")
    return file, kind


def _check_ending(file: DataFile, kind: str, start: bytes) -> None:
    """Refuse JSON whose name says CSV, and the reverse; the header of a CSV file is no JSON."""
    if kind in CSV_ENDINGS and JSON_ROWS.match(start):
        raise _refused(file, "JSON, not CSV", f"end its name in .jsonl{_packing(file)}")
    header = start.removeprefix(codecs.BOM_UTF8).split(b"\n", 1)[0].strip().lower()
    if kind in JSON_ENDINGS and (header[:1].isalpha() or header[:1] == b'"'):
        for delimiter, ending in ((b",", ".csv"), (b";", ".csv"), (b"\t", ".tsv")):
            names = {name.strip(b' "').decode(errors="replace") for name in header.split(delimiter)}
            if are_known(names):
                raise _refused(file, "CSV, not JSON", f"end its name in {ending}{_packing(file)}")


def check_unnamed(file: DataFile) -> None:
    """Look into a file whose name does not tell what it is.

    Args:
        file: The file.

    Raises:
        DataSourceError: It is known what it contains; the fix is its right name, or a way out.
    """
    file, kind = identify(file, "")
    if kind or file.codec:
        what = kind[1:].upper() if kind else f"packed with {file.codec}"
        raise _refused(file, what, f"end its name in {kind or '.jsonl'}{_packing(file)}")


def _packing(file: DataFile) -> str:
    return next((ending for ending, codec in COMPRESSIONS.items() if codec == file.codec), "")


def _start(file: DataFile) -> bytes:
    """Read the first bytes, before they are decoded."""
    with open_data(replace(file, encoding="")) as stream:
        return bytes(stream.read(START_BYTES))


def _refused(file: DataFile, what: str, fix: str) -> DataSourceError:
    return DataSourceError(
        f"{file.name} is {what}",
        where=file.name,
        expected="a file with rows",
        got=what,
        fix=fix,
    )


def _with_encoding(file: DataFile, start: bytes) -> DataFile:
    """Take the encoding from a byte order mark, then from the setting; without both it is UTF-8."""
    if start.startswith(codecs.BOM_UTF8):
        return replace(file, encoding="")
    for mark, encoding in WIDE_MARKS.items():
        if start.startswith(mark):
            return replace(file, encoding=encoding)
    if not file.encoding:
        _check_wide(file, start[:PATTERN_BYTES])
        _check_bytes(file, start)
    return file


def _check_wide(file: DataFile, start: bytes) -> None:
    """Refuse characters of two or four bytes without a mark, which no row could show as clearly."""
    if len(start) < 4:
        return
    quarters = [start[place : len(start) // 4 * 4 : 4] for place in range(4)]
    pattern = tuple(quarter.count(0) * 2 > len(quarter) for quarter in quarters)
    if pattern in NULL_PATTERNS:
        encoding = NULL_PATTERNS[pattern]
        raise _not_utf8(file, f"it is {encoding}", file.name, encoding)


def _check_bytes(file: DataFile, start: bytes) -> None:
    """Refuse a file of one byte a character: no line is UTF-8 beyond ASCII, and several are not."""
    try:
        start.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return
    faults = []
    lines = start.splitlines() if len(start) < START_BYTES else start.splitlines()[:-1]
    for number, line in enumerate(lines, start=1):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            faults.append((number, error.start, line))
        else:
            return
    if len(faults) < FEWEST_LINES:
        return
    if sum(start.count(sign) for sign in CONTROL_SIGNS) * 100 > len(start):
        raise _refused(file, "binary, not text", WRITE_ROWS)
    number, place, line = faults[0]
    what = (
        f"{len(faults)} of its first {len(lines)} lines have other bytes, e.g. "
        f"0x{line[place]:02X} at byte {place + 1} of line {number}"
    )
    encodings = likely_encodings(b"\n".join(line for _, _, line in faults))
    if not encodings:
        raise _refused(file, f"not UTF-8: {what}", "write it again as UTF-8, where it came from")
    raise _not_utf8(file, what, f"{file.name}:{number}", *encodings)


def likely_encodings(text: bytes) -> list[str]:
    """List encodings that text which is not UTF-8 may have, the likeliest first; perhaps none."""
    from charset_normalizer import from_bytes

    found = list(from_bytes(text[:GUESSED_BYTES].rpartition(b"\n")[0] or text[:GUESSED_BYTES]))
    names = [match.encoding for match in found][:MOST_GUESSES]
    if found and _is_western(str(found[0])):
        names = list(dict.fromkeys(["cp1252", *names]))
    return names[:MOST_GUESSES]


def _is_western(text: str) -> bool:
    """Return whether Windows-1252, the usual one, has every character of a text."""
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _not_utf8(file: DataFile, what: str, where: str, *guesses: str) -> DataSourceError:
    likeliest, *others = [guess.lower() for guess in guesses]
    if_wrong = f" (or {' or '.join(others)})" if others else ""
    return DataSourceError(
        f"{file.name} is not UTF-8: {what}",
        where=where,
        expected="UTF-8 text",
        got=f"perhaps {', '.join(guesses)}",
        fix=f"set data.source.encoding={likeliest}{if_wrong} if that is its encoding, and look at "
        f"the texts afterwards; or convert it: iconv -f {likeliest.upper().replace('_', '-')} "
        f"-t UTF-8 {file.path.name} > utf8-{file.path.name}",
    )
