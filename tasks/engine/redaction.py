"""Addresses without what must not be stored: passwords and signed queries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from schemas.redaction import USER_INFO, strip_addresses

ADDRESS = re.compile(r"[\w+.:-]*://")
WHOLE_ADDRESS = re.compile(r"[\w+.:-]*://[^\s\\^|*()<>{}\"]*")
"""Text that is nothing but an address; a regular expression for addresses has other characters."""
QUERY_IN_TEXT = re.compile(r"(\w://[^\s?]*)\?(\S*)")
SIGNATURE = re.compile(
    r"(^|[&;])[\w.-]*(auth|credential|key|pass|policy|pwd|secret|session|sig|token)[\w.-]*="
    r"|=[\w%+/.~-]{24}",
    re.IGNORECASE,
)
"""A parameter of a query that lets in who has it: by its name, or by a value too long to be a word."""


def without_secrets(text: str) -> str:
    """Remove user, password and query from an address, or from addresses within other text."""
    clean = strip_addresses(text)
    path, _, query = clean.partition("?")  # which may have spaces; one without "=" is a wildcard
    return path if ADDRESS.match(text) and "=" in query else clean


def public_settings(value: Any) -> Any:
    """Return a copy of plain settings without the secrets of addresses.

    Other text, such as a pattern or instructions, stays whole, as it has to be to run again.
    """
    if isinstance(value, str):
        return without_secrets(value) if WHOLE_ADDRESS.fullmatch(value) else _public_text(value)
    if isinstance(value, dict):
        return {name: public_settings(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_settings(item) for item in value]
    return value


def _public_text(text: str) -> str:
    def shown(match: re.Match[str]) -> str:
        return match[1] if SIGNATURE.search(match[2]) else match[0]

    return QUERY_IN_TEXT.sub(shown, USER_INFO.sub(r"\1", text))


def without_folders(text: str) -> str:
    """Return only the last part of an absolute path; other text stays as it is."""
    path = Path(text.removeprefix("file://"))
    return path.name if path.is_absolute() else text
