"""The language of texts."""

from __future__ import annotations

import pytest

from schemas.texts.language import detect_languages


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France, and how many people live there?", "en"),
        ("Vad heter Sveriges huvudstad, och hur många människor bor där?", "sv"),
        ("Wie heißt die Hauptstadt von Österreich?", "de"),
        ("¿Cuál es la capital de España y cuántas personas viven allí?", "es"),
        ("Какой город является столицей России?", "ru"),
        ("中国的首都是哪个城市？请告诉我", "zh"),
        ("日本の首都はどこですか", "ja"),
    ],
)
def test_detect_languages_tells_the_language(text: str, language: str) -> None:
    assert detect_languages([text]) == [language]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The cat",
        "你好",
        "12345 67890 + 5 = ?!",
        "def f(x): return [y for y in x if y > 0 and y != 3]",
        "wbtr dze xagtjyy pulaqhi ofpzkusi snsy zz leb kqifldo byozsee",
        "\udcff" * 40,
    ],
)
def test_detect_languages_does_not_guess(text: str) -> None:
    assert detect_languages([text]) == [None]


def test_detect_languages_keeps_the_order() -> None:
    english, swedish = "This is a plain English sentence.", "Det här är en vanlig svensk mening."
    assert detect_languages([swedish, "?", english]) == ["sv", None, "en"]


def test_detect_languages_looks_at_the_first_thousand_characters() -> None:
    english = "This is a plain English sentence, and another. " * 22
    assert detect_languages([english + "Det här är en vanlig svensk mening. " * 300]) == ["en"]


def test_detect_languages_counts_letters_only() -> None:
    """19 letters are too few, whatever stands between them; 20 are enough."""
    assert detect_languages(["Vad heter du min vän", "1, 2, 3: Vad heter du min vä!"]) == [None] * 2
    assert detect_languages(["Vad heter du min vänner"]) == ["sv"]
