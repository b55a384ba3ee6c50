"""The language of texts, told offline by py3langid, on a sample of the rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

LEAST_LETTER_BYTES = 20
"""20 Latin letters, 10 Cyrillic or 7 Chinese: the identifier looks at bytes of UTF-8."""
MOST_CHARACTERS = 1000
LEAST_PROBABILITY = 0.5
"""Below it the text is code, figures, a mixture or too short to say."""
CODE_LETTERS = 2


def detect_languages(texts: Sequence[str]) -> list[str | None]:
    """Tell the language of each text from its first 1,000 characters.

    Args:
        texts: The texts.

    Returns:
        ISO 639-1 codes; None where there is too little text, no language or real doubt.
    """
    return [_detect(text[:MOST_CHARACTERS]) for text in texts]


def _detect(text: str) -> str | None:
    letters = "".join(filter(str.isalpha, text))
    if len(letters.encode("utf-8", "replace")) < LEAST_LETTER_BYTES:
        return None
    language, probability = _identifier().classify(text)
    # Three letters stand for text in no language (zxx) or in one that ISO 639-1 has no code for.
    is_sure = len(language) == CODE_LETTERS and probability >= LEAST_PROBABILITY
    return str(language) if is_sure else None


@functools.cache
def _identifier() -> Any:
    """Load the model that comes with the package, once: it takes 0.6 s."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
