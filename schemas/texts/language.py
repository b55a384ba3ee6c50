"""Detect the language of texts offline with py3langid."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

LEAST_LETTER_BYTES = 20
"""20 Latin letters, 10 Cyrillic or 7 Chinese: the identifier looks at bytes of UTF-8."""
MOST_CHARACTERS = 1000
LEAST_PROBABILITY = 0.5
"""Below it the text is code, numbers, a mixture or too short."""
CODE_LETTERS = 2


def detect_languages(texts: Sequence[str]) -> list[str | None]:
    """Detect the ISO 639-1 code of each text from its first 1,000 characters; None if in doubt."""
    return [_detect(text[:MOST_CHARACTERS]) for text in texts]


def _detect(text: str) -> str | None:
    letters = "".join(filter(str.isalpha, text))
    if len(letters.encode("utf-8", "replace")) < LEAST_LETTER_BYTES:
        return None
    language, probability = _identifier().classify(text)
    # Three letters are the code for no language (zxx) or for one that ISO 639-1 does not contain.
    is_sure = len(language) == CODE_LETTERS and probability >= LEAST_PROBABILITY
    return str(language) if is_sure else None


@functools.cache
def _identifier() -> Any:
    """Load the model of the package, once: it takes 0.6 s."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
