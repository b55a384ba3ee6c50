from __future__ import annotations

import re

import pytest

from schemas.texts.mojibake import MOJIBAKE_HINT, find_mojibake

WHOLE = [
    "café",
    "voilà, là",
    "don’t",
    "“hi”",
    "5 €",
    "10 °C",
    "£5",
    "ESPAÑA",
    "Ärger über Straße",
    "Öl, Ångström",
    "łódź się",
    "Škoda žába",
    "привет",
    "Ελληνικά",
    "שלום",
    "مرحبا",
    "你好世界",
    "こんにちは",
    "안녕하세요",
    "tiếng Việt",
    "😀",
    "→ next ✓",
    "a\u00a0b",
    "\ufeffx",
    "fi™ …",
]

LEGAL = [
    "",
    "NÃO, São, IRMÃ",
    "“MAÇÔ e IRMÔ disse",
    "AMANHÃ–TARDE IRMÃ…",
    "« café », « très » : ça".replace(" »", "\u00a0»").replace("« ", "«\u00a0"),
    "l'accent «\u00a0Â\u00a0» et Â 5, prix\u00a0: 5 Â",
    "château, fête…», naïf”…",
    "HYVÄ… HYVÄ” HYVÄ’ PÄIVÄ–YÖ",
    "5 Å³, 1.54 Å±0.02, Å–B, 3 Å²",
    "3×½ and 2×¼×½",
    "DØÐ… Ø–",
    "ESPAÑ” está»”",
    "Straß“, Spaß»",
    "nôž, é™, ê…, ð, å ä ö",
    "„‚Ähnlich’“",
    "你好，世界。",
    "Â\u0085Â\u0085",  # control characters of UTF-8, and private ones
    "î\u0080\u0080î\u0080\u0080",
]


def read_as_windows_1252(text: str) -> str:
    """Decode as browsers do: the five bytes without a character become control characters."""
    return "".join(
        bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in text.encode()
    )


@pytest.mark.parametrize("text", WHOLE)
def test_find_mojibake_finds_utf8_read_as_windows_1252_or_latin_1(text: str) -> None:
    for damaged in (read_as_windows_1252(text), text.encode().decode("latin-1")):
        assert find_mojibake(damaged) is not None, damaged
        assert re.search(MOJIBAKE_HINT, damaged), damaged


@pytest.mark.parametrize("text", WHOLE + LEGAL)
def test_find_mojibake_leaves_ordinary_writing_alone(text: str) -> None:
    assert find_mojibake(text) is None


def test_find_mojibake_gives_the_first_place() -> None:
    assert find_mojibake("le cafÃ© et donâ€™t") == (6, "Ã©")
    assert find_mojibake("donâ€™t, le cafÃ©") == (3, "â€")


def test_find_mojibake_finds_mac_roman_quotes_and_double_damage() -> None:
    assert find_mojibake("It‚Äôs") == (2, "‚Äô")
    assert find_mojibake("cafÃƒÂ©") == (3, "Ãƒ")


def test_find_mojibake_passes_over_bytes_that_are_no_utf8() -> None:
    assert find_mojibake("ÃÃ âÃ© ï¿".replace("Ã©", "")) is None


@pytest.mark.parametrize(
    "damaged",
    [
        "Привет, как дела".encode().decode("cp1251"),
        "it’s".encode().decode("cp1251"),
        "Größe".encode().decode("cp437"),
        "schön".encode().decode("cp850"),
        "it’s".encode().decode("cp437"),
        "人工智能很好".encode("gbk").decode("latin-1"),
        "안녕하세요 세계".encode("euc-kr").decode("latin-1"),
        "锟斤拷锟斤拷",
        "烫" * 12,
    ],
)
def test_find_mojibake_finds_other_encodings(damaged: str) -> None:
    assert find_mojibake(f"He said: {damaged} and left.") is not None
    assert re.search(MOJIBAKE_HINT, damaged)


@pytest.mark.parametrize(
    "text",
    [
        "Россия и США, СССР. РСФСР! СІРІ",
        "├── src\n│   ├── a\n└── b ┬┴┬┴ ├┤",
        "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ ¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶·¸¹º»¼½¾¿",
        "Chapter 1········5",
        "°°°°°°°°",
        "烫烫烫！",
        "ÄÖÜÄÖÜÄÖÜ",
    ],
)
def test_find_mojibake_leaves_listings_and_frames_alone(text: str) -> None:
    assert find_mojibake(text) is None
